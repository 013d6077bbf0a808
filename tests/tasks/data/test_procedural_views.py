from dataclasses import replace

import numpy as np
import pytest
import torch

from modules.losses.image import dilate
from tasks.data import procedural_views as views_module
from tasks.data.procedural_views import CachedViews, ViewsConfig, people_to_render, view_poses, views_folder


@pytest.fixture
def config(tmp_path):
    return ViewsConfig(people=2, views=3, size=32, cache=str(tmp_path), workers=1)


def test_poses_are_in_their_ranges(config, generator):
    euler, translation = view_poses(config, 200, generator)
    limits = torch.deg2rad(torch.tensor([26.0, 38.0, 5.0]))
    assert (euler.abs() <= limits).all() and euler.abs().amax(dim=0).ge(0.9 * limits).all()
    assert -6.5 <= translation[:, 2].min() < translation[:, 2].max() <= -3.5


def test_a_fan_turns_by_twenty_degrees(config, generator):
    euler, translation = view_poses(replace(config, poses="fan"), 5, generator)
    torch.testing.assert_close(torch.rad2deg(euler[:, 1]), torch.tensor([0.0, 20, -20, 40, -40]))
    assert (translation[:, 2] == -5).all() and not euler[:, [0, 2]].any()


def test_views_of_a_person_show_one_head_from_several_sides(config):
    item = CachedViews(config)[0]
    assert item["images"].shape == (2, 3, 32, 32) and item["images"].dtype == torch.uint8
    far = ~dilate(item["masks"][:, None], 5)[:, 0]  # edges are blended
    assert item["masks"].any() and not item["images"].permute(0, 2, 3, 1)[far].any()
    assert not torch.equal(item["euler"][0], item["euler"][1])


def test_nothing_is_rendered_twice(config, monkeypatch):
    assert people_to_render(config) == 2
    first = CachedViews(config)[1]
    assert people_to_render(config) == 0 and people_to_render(replace(config, people=5)) == 3
    monkeypatch.setattr(views_module, "render_views", None)
    again = CachedViews(config)[1]
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_the_progress_says_whose_views_are_rendered(config, monkeypatch):
    called = []
    monkeypatch.setattr(views_module, "with_progress", lambda items, total, unit: called.append(unit) or items)
    CachedViews(config)
    CachedViews(replace(config, people=1, first_seed=50), every_view=True)
    assert called == ["training person", "validation person"]


def test_other_settings_have_another_folder_and_more_people_the_same(config):
    assert views_folder(replace(config, size=64)) != views_folder(config)
    assert views_folder(replace(config, people=9, first_seed=5, workers=7)) == views_folder(config)


def test_an_interrupted_run_resumes(config):
    CachedViews(replace(config, people=1))
    written = sorted(views_folder(config).glob("*.npz"))
    before = written[0].stat().st_mtime_ns
    CachedViews(config)
    assert len(sorted(views_folder(config).glob("*.npz"))) == 2 and written[0].stat().st_mtime_ns == before


def test_every_view_comes_in_order(config):
    item = CachedViews(config, pairs_per_person=1, every_view=True)[1]
    stored = np.load(views_folder(config) / "000001.npz")["images"]
    assert torch.equal(item["images"], torch.from_numpy(stored))


def test_wrong_distances_are_refused():
    with pytest.raises(ValueError, match=r"7.0 to 6.5"):
        ViewsConfig(nearest=7.0)
