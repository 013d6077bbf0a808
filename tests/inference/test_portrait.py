from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from inference import portrait as portrait_module
from inference.portrait import Portrait
from modules.analysis.inpainting import inpaint_background
from modules.analysis.segmentation_classes import HEAD_CLASSES
from modules.media.pixels import to_pixels
from modules.system.errors import UserError


def test_a_portrait_has_its_parts_where_the_classes_say(portrait):
    head = torch.isin(portrait.classes, torch.tensor(HEAD_CLASSES, dtype=torch.uint8))[:, None].expand_as(portrait.head)
    assert torch.equal(portrait.head[head], portrait.picture[head])
    assert bool((portrait.head[~head] == -1).all())
    assert 0.1 < float(head.float().mean()) < 0.6
    behind = portrait.background[portrait.classes[:, None].expand_as(portrait.background) == 0]
    seen = portrait.picture[portrait.classes[:, None].expand_as(portrait.picture) == 0]
    assert float((behind - seen).abs().mean()) < 0.05


def test_a_saved_portrait_comes_back_and_names_its_face_model(tmp_path, portrait):
    path = tmp_path / "neuer Ordner" / "Ein Bild.safetensors"
    portrait.save(path)
    again = Portrait.load(path)
    for field in fields(Portrait):
        loaded, saved = getattr(again, field.name), getattr(portrait, field.name)
        assert torch.equal(loaded, saved) if isinstance(saved, torch.Tensor) else loaded == saved == "procedural"
    with safe_open(path, "pt") as file:
        assert file.metadata() == {"format": "real3d-portrait", "version": "1", "face_model": "procedural"}


def test_a_save_that_fails_leaves_the_old_file(tmp_path, portrait, monkeypatch):
    def full(tensors, path, metadata):
        path.write_bytes(b"half")
        raise OSError("No space left on device")

    portrait.save(tmp_path / "p.safetensors")
    monkeypatch.setattr(portrait_module, "save_file", full)
    with pytest.raises(UserError, match="cannot be written .No space left on device.; choose another place"):
        portrait.save(tmp_path / "p.safetensors")
    assert [path.name for path in tmp_path.iterdir()] == ["p.safetensors"]
    assert torch.equal(Portrait.load(tmp_path / "p.safetensors").head, portrait.head)


def test_a_file_that_is_no_portrait_is_refused(tmp_path):
    (tmp_path / "x.safetensors").write_text("no", encoding="utf-8")
    for name in ("x.safetensors", "absent.safetensors"):
        with pytest.raises(UserError, match="not a portrait file"):
            Portrait.load(tmp_path / name)


@pytest.mark.parametrize(
    "header, words",
    [
        (None, "format, version are .None, None."),
        ({"version": "2"}, "'2'"),
        ({"format": "pt"}, "'pt'"),
        ({"face_model": None}, "face_model"),
    ],
)
def test_another_format_or_version_is_refused_in_one_line(tmp_path, portrait, header, words):
    whole_path, path = tmp_path / "whole.safetensors", tmp_path / "p.safetensors"
    portrait.save(whole_path)
    whole = {"format": "real3d-portrait", "version": "1", "face_model": "procedural"}
    changed = None if header is None else {key: value for key, value in (whole | header).items() if value is not None}
    save_file(load_file(whole_path), path, metadata=changed)
    with pytest.raises(UserError, match=f"not a portrait file.*{words}") as refusal:
        Portrait.load(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "name, value", [("classes", 6), ("background", 1e20), ("head", float("nan")), ("expression", float("inf"))]
)
def test_values_out_of_all_reason_are_refused_by_name(tmp_path, portrait, name, value):
    tensors = getattr(portrait, name).clone()
    tensors.view(-1)[5] = value
    replace(portrait, **{name: tensors}).save(tmp_path / "p.safetensors")
    with pytest.raises(UserError, match=rf"p.safetensors is damaged: {name} holds values outside of") as refusal:
        Portrait.load(tmp_path / "p.safetensors")
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    "name, change",
    [
        ("expression", lambda x: x[0]),
        ("euler", lambda x: x.expand(2, 3).clone()),
        ("head", lambda x: x[0, 0]),
        ("picture", lambda x: x[..., :-1].clone()),
        ("classes", lambda x: x.float()),
        ("torso", lambda x: x.to(torch.uint8)),
    ],
)
def test_tensors_of_another_shape_or_kind_are_refused_by_name(tmp_path, portrait, name, change):
    replace(portrait, **{name: change(getattr(portrait, name))}).save(tmp_path / "p.safetensors")
    with pytest.raises(UserError, match=rf"p.safetensors is damaged: {name} is torch\..* instead of \[1, ") as refusal:
        Portrait.load(tmp_path / "p.safetensors")
    assert "\n" not in str(refusal.value)


def test_a_real_photo_becomes_a_portrait(media, assets, pipeline):
    portrait = pipeline.portrait(media / "portraits" / "long_hair_woman_outdoor.jpg")
    assert portrait.head.shape == (1, 3, pipeline.size, pipeline.size)
    assert float(portrait.euler.abs().max()) < 0.4 and -8 < float(portrait.translation[0, 2]) < -2


def test_the_background_goes_on_behind_the_person_as_was_asked(portrait):
    picture, classes = to_pixels(portrait.picture)[0], portrait.classes[0].numpy()
    for method in ("smooth", "nearest"):
        made = Portrait.from_picture(picture, classes, portrait.face, "procedural", method)
        assert np.array_equal(to_pixels(made.background)[0], inpaint_background(picture[None], classes[None], method))
