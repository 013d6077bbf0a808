from dataclasses import replace

import pytest
import torch
from torch.utils.data import default_collate

from modules.eg3d.generator import EG3DGenerator
from modules.geometry.camera import Camera, look_at_camera, pose_camera
from modules.portrait.build import build_portrait
from modules.portrait.discriminator import DualDiscriminator
from modules.rendering.rays import pixel_rays
from modules.rendering.superresolution import SuperresolutionConfig
from modules.system.errors import UserError
from tasks.data.eg3d_views import EG3DSeeds, EG3DTeacher, EG3DViewsConfig, copy_matching
from tasks.data.procedural_views import ViewsConfig, view_poses
from tasks.engine.loader import StreamSampler
from tests.golden.compare import relative_error
from tests.modules.official.snapshot_files import CONFIG, write_snapshot
from tests.tasks.tiny_images import ADVERSARY, RAW, SIZE, tiny_model, write_tiny_clips
from tests.tiny import tiny_portrait_config

FOCAL_LENGTH, HEADS = 4.2647, 50
HEAD = torch.tensor([0.2, 0.3, 0.3])  # half axes of an ellipsoid around the origin, world units: about a head
STUDENT = replace(CONFIG.superresolution, clamp=None)


def tiny_generator(seed: int = 0) -> EG3DGenerator:
    torch.manual_seed(seed)
    generator = EG3DGenerator(CONFIG).eval()
    latents = torch.randn(1000, CONFIG.z_dim)
    with torch.no_grad():
        styles = generator.styles(latents, look_at_camera(0.1 * torch.randn(1000), torch.zeros(1000)), 1.0)
    generator.backbone.mapping.w_avg.copy_(styles[:, 0].mean(dim=0))
    return generator


@pytest.fixture
def teacher(monkeypatch, tmp_path):
    """A teacher from a file."""
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    torch.manual_seed(1)
    write_snapshot(monkeypatch, tmp_path / "tiny.pkl", tiny_generator(), DualDiscriminator(ADVERSARY.discriminator))
    return EG3DTeacher.from_snapshot(EG3DViewsConfig(snapshot="tiny.pkl"), FOCAL_LENGTH)


def seeds_of(teacher, count=2):
    seeds = teacher.train_dataset()
    return default_collate([seeds[i] for i in range(count)])


def test_items_follow_their_number_and_cameras_look_at_the_head():
    seeds = EG3DSeeds(999, 512, FOCAL_LENGTH)
    first, again, other = seeds[3], seeds[3], seeds[4]
    assert torch.equal(first["z"], again["z"]) and not torch.equal(first["z"], other["z"])
    camera = Camera.from_vector(first["cameras"])
    towards = torch.nn.functional.normalize(torch.tensor([0, 0, 0.2]) - camera.camera_to_world[:, :3, 3], dim=1)
    torch.testing.assert_close(towards, camera.camera_to_world[:, :3, 2], atol=1e-4, rtol=0)


def test_no_run_sees_a_latent_twice():
    seeds, run = EG3DSeeds(999, 4, FOCAL_LENGTH), 500_000 * 8 * 16  # steps, processes, samples of each
    late = iter(StreamSampler(len(seeds), 4, seed=0, start=run))
    assert len(seeds) > 100 * run
    latents = torch.stack([seeds[i]["z"] for i in [*next(late), *next(late), 0, 1, 1_000_000, 1_000_001]])
    assert torch.pdist(latents).min() > 0


def test_half_of_the_cameras_come_from_clips_if_there_are_any(tmp_path):
    write_tiny_clips(tmp_path, clips=2)
    seeds = EG3DSeeds(999, 512, FOCAL_LENGTH, [tmp_path / "clip_0", tmp_path / "clip_1"])
    cameras = torch.cat([seeds[i]["cameras"] for i in range(40)])
    fitted = ((cameras[:, 3].abs() < 1e-6) & (cameras[:, 7] - 0.006).abs().lt(1e-6)).float().mean()
    assert 0.3 < fitted < 0.7


def test_a_folder_without_clips_is_reported_with_its_key(tmp_path):
    with pytest.raises(UserError, match=r"no prepared clips in .*nowhere; make .*eg3d\.pose_clips=''") as caught:
        EG3DTeacher(tiny_generator(), EG3DViewsConfig(pose_clips=str(tmp_path / "nowhere")), FOCAL_LENGTH)
    assert "\n" not in str(caught.value)


def kept_head(teacher, camera):
    """Share of a solid head that the teacher sees from each camera, at the depth where it is; [B]."""
    renderer = teacher.generator.renderer
    renderer.config = replace(renderer.config, samples_coarse=48, samples_fine=48)

    def solid(planes, points):
        inside = (points / HEAD).norm(dim=-1, keepdim=True) < 1
        return torch.where(inside, 500.0, -500.0), torch.zeros(*points.shape[:2], renderer.config.plane_channels)

    renderer.query = solid
    size = 16
    with torch.no_grad():
        image = renderer(torch.zeros(len(camera), 3, 4, 8, 8), camera, size)
    origins, directions = (part / HEAD for part in pixel_rays(camera.camera_to_world, camera.intrinsics, size))
    a, b = directions.square().sum(-1), (origins * directions).sum(-1)
    root = (b.square() - a * (origins.square().sum(-1) - 1)).clamp(min=0).sqrt()
    meets, entry = 2 * root / a > 0.1, (-b - root) / a  # at least 0.1 of the ray lie inside
    seen = (image.weights.flatten(1) > 0.95) & ((image.depth.flatten(1) - entry).abs() < 0.05)
    assert (meets.sum(dim=1) > 10).all()
    return (seen & meets).sum(dim=1) / meets.sum(dim=1)


def training_cameras(teacher, law, tmp_path):
    """Cameras of the views that a law gives."""
    if law == "validation":
        return Camera.from_vector(teacher.validation_dataset(1)[0]["cameras"])
    if law == "fitted":
        return pose_camera(*view_poses(ViewsConfig(), 2 * HEADS, torch.Generator().manual_seed(0)), FOCAL_LENGTH)
    if law == "clips":
        write_tiny_clips(tmp_path / "clips", clips=2)
        teacher = EG3DTeacher(teacher.generator, EG3DViewsConfig(pose_clips=str(tmp_path / "clips")), FOCAL_LENGTH)
    return Camera.from_vector(seeds_of(teacher, HEADS)["cameras"].flatten(0, 1))


@pytest.mark.parametrize("law", ["drawn", "clips", "fitted", "validation"])
def test_every_camera_sees_the_whole_head(teacher, law, tmp_path):
    assert kept_head(teacher, training_cameras(teacher, law, tmp_path)).min() > 0.99


def test_the_limits_of_the_file_would_show_no_head_to_a_third_of_the_cameras(teacher, tmp_path):
    renderer = teacher.generator.renderer
    assert renderer.config.fixed_limits is None
    renderer.config = replace(renderer.config, fixed_limits=CONFIG.renderer.fixed_limits)
    kept = kept_head(teacher, training_cameras(teacher, "drawn", tmp_path))
    assert (kept < 0.01).float().mean() > 0.25 and (kept > 0.99).float().mean() < 0.6


def test_views_of_an_item_show_the_same_person(teacher):
    batch = seeds_of(teacher)
    views = teacher(batch, RAW).views
    assert len(views) == 2 and views[0].image.shape == (2, 3, SIZE, SIZE)
    assert views[0].image_raw.shape == (2, 3, RAW, RAW) and not views[0].image.requires_grad
    batch["cameras"][:, 1] = batch["cameras"][:, 0]
    same = teacher(batch, RAW).views
    torch.testing.assert_close(same[0].image, same[1].image)


def test_pictures_are_float32_under_autocast(teacher):
    batch = seeds_of(teacher)
    exact = teacher(batch, RAW)
    with torch.autocast("cpu", torch.bfloat16):
        automatic = teacher(batch, RAW)
    for a, b in zip(automatic.views, exact.views):
        assert a.image.dtype == a.image_raw.dtype == torch.float32
        assert relative_error(a.image, b.image) < 1e-5


def test_validation_has_fixed_views_from_three_sides(teacher):
    seeds = teacher.validation_dataset(2)
    assert len(seeds) == 2 and seeds[0]["cameras"].shape == (3, 25)
    assert len(teacher(default_collate([seeds[0]]), RAW).views) == 3


def student(seed=2, **changes):
    """The modules of a tiny student with the teacher's widths."""
    torch.manual_seed(seed)
    modules = dict(build_portrait(tiny_model(1, **{"superresolution": STUDENT, **changes})).named_children())
    return modules | {"discriminator": DualDiscriminator(ADVERSARY.discriminator)}


def test_the_student_takes_over_what_fits():
    source, target = torch.nn.Linear(3, 2), torch.nn.Linear(3, 2)
    target.extra = torch.nn.Linear(2, 2)
    before = target.extra.weight.clone()
    assert copy_matching(source, target) == ["weight", "bias"]
    assert torch.equal(source.weight, target.weight) and torch.equal(target.extra.weight, before)


def test_the_student_starts_with_its_teachers_decoder_and_discriminator(teacher):
    modules = student()
    teacher.init_student(modules)
    for own, theirs in (
        (modules["renderer"].state_dict(), teacher.generator.renderer.state_dict()),
        (modules["discriminator"].state_dict(), teacher.discriminator),
    ):
        names = [name for name in theirs if not name.endswith("resample_filter")]
        assert own.keys() == set(names) and all(torch.equal(own[name], theirs[name]) for name in names)


@torch.no_grad()
@pytest.mark.parametrize("seed", [0, 1])
def test_the_student_enlarges_its_teachers_features_to_its_teachers_picture(teacher, seed):
    generator, modules = tiny_generator(seed), student()
    EG3DTeacher(generator, EG3DViewsConfig(discriminator="random"), FOCAL_LENGTH).init_student(modules)
    batch = seeds_of(teacher)

    def error(truncation: float) -> float:
        """Of the student's picture of the teacher's features."""
        ws = generator.styles(batch["z"], Camera.from_vector(batch["conditioning"]), truncation)
        theirs = generator.render(generator.planes(ws), ws, Camera.from_vector(batch["cameras"][:, 0]))
        return relative_error(modules["superresolution"](theirs.image_raw, theirs.feature), theirs.image)

    assert error(0.0) < 1e-5  # the mean style
    assert 1e-4 < error(0.1) < error(0.7)  # the student has one style for everyone


def test_a_teacher_with_styles_of_ones_is_copied_as_it_is():
    torch.manual_seed(0)
    generator, modules = EG3DGenerator(replace(CONFIG, superresolution_styles="ones")), student()
    EG3DTeacher(generator, EG3DViewsConfig(discriminator="random"), FOCAL_LENGTH).init_student(modules)
    own = modules["superresolution"].state_dict()
    assert all(torch.equal(own[name], value) for name, value in generator.superresolution.state_dict().items())


def test_a_file_without_a_discriminator_is_refused_unless_a_random_one_is_asked_for():
    without = EG3DTeacher(tiny_generator(), EG3DViewsConfig(snapshot="bare.pkl"), FOCAL_LENGTH)
    with pytest.raises(UserError, match=r"bare\.pkl has no discriminator D.*eg3d\.discriminator=random"):
        without.init_student(student())
    without.config = replace(without.config, discriminator="random")
    without.init_student(student())
    without.config = replace(without.config, discriminator="snapshot")
    without.init_student({name: part for name, part in student().items() if name != "discriminator"})


def test_a_discriminator_of_other_sizes_is_refused_with_the_tensor(teacher):
    wider = DualDiscriminator(replace(ADVERSARY.discriminator, max_channels=16))
    with pytest.raises(UserError, match=r"discriminator D of tiny\.pkl.*misshapen.*\[8\] instead of \[16\]"):
        teacher.init_student(student() | {"discriminator": wider})


def test_a_teacher_of_another_picture_size_is_refused(teacher):
    large = SuperresolutionConfig(resolution=16, feature_channels=4, middle_channels=8, output_channels=4, w_dim=8)
    model = build_portrait(tiny_portrait_config(1, superresolution=large))
    with pytest.raises(UserError, match=r"pictures of tiny\.pkl have 32 pixels a side, the model's 64"):
        teacher.init_student(dict(model.named_children()))
