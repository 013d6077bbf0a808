import numpy as np
import pytest
import torch

from inference.portrait import Portrait, to_pixels, to_tensor
from modules.classes import HEAD_CLASSES
from modules.errors import UserError


def test_pixels_survive_the_way_to_tensors_and_back():
    picture = np.random.default_rng(0).integers(0, 256, (7, 5, 3), dtype=np.uint8)
    assert np.array_equal(to_pixels(to_tensor(picture))[0], picture)


def test_a_portrait_has_its_parts_where_the_classes_say(portrait):
    head = torch.isin(portrait.classes, torch.tensor(HEAD_CLASSES, dtype=torch.uint8))[:, None].expand_as(portrait.head)
    assert torch.equal(portrait.head[head], portrait.picture[head])
    assert bool((portrait.head[~head] == -1).all())
    assert 0.1 < float(head.float().mean()) < 0.6
    behind = portrait.background[portrait.classes[:, None].expand_as(portrait.background) == 0]
    seen = portrait.picture[portrait.classes[:, None].expand_as(portrait.picture) == 0]
    assert float((behind - seen).abs().mean()) < 0.05


def test_a_saved_portrait_comes_back(tmp_path, portrait):
    portrait.save(tmp_path / "Ein Bild.safetensors")
    again = Portrait.load(tmp_path / "Ein Bild.safetensors")
    assert torch.equal(again.head, portrait.head) and torch.equal(again.euler, portrait.euler)


def test_a_file_that_is_no_portrait_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_text("no", encoding="utf-8")
    for name in ("x.safetensors", "absent.safetensors"):
        with pytest.raises(UserError, match="not a portrait file"):
            Portrait.load(tmp_path / name)


def test_a_real_photo_becomes_a_portrait(media, assets, talker):
    portrait = talker.portrait(media / "portraits" / "long_hair_woman_outdoor.jpg")
    assert portrait.head.shape == (1, 3, talker.size, talker.size)
    assert float(portrait.euler.abs().max()) < 0.4 and -8 < float(portrait.translation[0, 2]) < -2
