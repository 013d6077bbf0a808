import pytest
import torch
from torch.utils.data import default_collate

from modules.eg3d.generator import EG3DConfig, EG3DGenerator
from modules.geometry.camera import Camera
from modules.portrait.build import build_portrait
from modules.rendering.renderer import RendererConfig
from modules.rendering.superresolution import SuperresolutionConfig
from tasks.data.eg3d_views import EG3DSeeds, EG3DTeacher, EG3DViewsConfig, copy_matching
from tests.tasks.tiny_images import RAW, SIZE, tiny_model, write_tiny_clips


@pytest.fixture
def teacher():
    torch.manual_seed(0)
    return EG3DTeacher(
        EG3DGenerator(
            EG3DConfig(
                w_dim=8,
                plane_resolution=8,
                base_channels=64,
                max_channels=8,
                neural_resolution=RAW,
                renderer=RendererConfig(plane_channels=4, hidden_channels=8, samples_coarse=4, samples_fine=4),
                superresolution=SuperresolutionConfig(
                    resolution=RAW, feature_channels=4, middle_channels=8, output_channels=8, w_dim=8
                ),
            )
        ),
        EG3DViewsConfig(),
        4.2647,
    )


def test_items_follow_their_number_and_cameras_look_at_the_head():
    seeds = EG3DSeeds(EG3DViewsConfig(), 4.2647)
    first, again, other = seeds[3], seeds[3], seeds[4]
    assert torch.equal(first["z"], again["z"]) and not torch.equal(first["z"], other["z"])
    camera = Camera.from_vector(first["cameras"])
    towards = torch.nn.functional.normalize(torch.tensor([0, 0, 0.2]) - camera.camera_to_world[:, :3, 3], dim=1)
    torch.testing.assert_close(towards, camera.camera_to_world[:, :3, 2], atol=1e-4, rtol=0)


def test_half_of_the_cameras_come_from_clips_if_there_are_any(tmp_path):
    write_tiny_clips(tmp_path, clips=2)
    seeds = EG3DSeeds(EG3DViewsConfig(pose_clips=str(tmp_path)), 4.2647)
    cameras = torch.cat([seeds[i]["cameras"] for i in range(40)])
    fitted = ((cameras[:, 3].abs() < 1e-6) & (cameras[:, 7] - 0.006).abs().lt(1e-6)).float().mean()
    assert 0.3 < fitted < 0.7


def test_views_of_an_item_show_the_same_person(teacher):
    batch = default_collate([EG3DSeeds(EG3DViewsConfig(), 4.2647)[i] for i in range(2)])
    views = teacher(batch, RAW).views
    assert len(views) == 2 and views[0].image.shape == (2, 3, SIZE, SIZE)
    assert views[0].image_raw.shape == (2, 3, RAW, RAW) and not views[0].image.requires_grad
    batch["cameras"][:, 1] = batch["cameras"][:, 0]
    same = teacher(batch, RAW).views
    torch.testing.assert_close(same[0].image, same[1].image)


def test_validation_has_fixed_views_from_three_sides(teacher):
    seeds = teacher.validation_dataset(2)
    assert len(seeds) == 2 and seeds[0]["cameras"].shape == (3, 25)
    assert len(teacher(default_collate([seeds[0]]), RAW).views) == 3


def test_the_student_takes_over_what_fits(teacher):
    source, target = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    target.extra = torch.nn.Linear(2, 2)
    before = target.extra.weight.clone()
    assert copy_matching(source, target) == ["weight", "bias"]
    assert torch.equal(source.weight, target.weight) and torch.equal(target.extra.weight, before)


def test_the_student_starts_as_its_teacher(teacher):
    model = build_portrait(tiny_model(1))
    before = model.renderer.decoder.net[0].weight.clone()
    teacher.init_student(dict(model.named_children()))
    theirs = teacher.generator.renderer.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in model.renderer.state_dict().items())
    assert not torch.equal(model.renderer.decoder.net[0].weight, before)
