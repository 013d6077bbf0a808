from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch.utils.data import default_collate

from modules.eg3d.generator import EG3DGenerator
from modules.portrait.config import Real3DPortraitConfig
from modules.portrait.discriminator import DualDiscriminator
from modules.system.checkpoint import save_checkpoint
from modules.system.errors import UserError
from tasks.data.eg3d_views import EG3DViewsConfig
from tasks.engine.optimization import build_optimizer
from tasks.engine.sheet import CAPTION, SMALLEST
from tasks.engine.task import StepState
from tasks.stages.adversary import AdversaryConfig
from tasks.stages.i2p import INPUTS, TERMS, I2PConfig, I2PTask, reference_runs
from tasks.stages.image_terms import density_loss
from tasks.stages.terms import weighted_terms
from tests.modules.official.snapshot_files import CONFIG, write_snapshot
from tests.tasks.steps import Steps
from tests.tasks.terms import check_best_metric, check_factors, check_inputs, gain_of_best_metric, generator_terms
from tests.tasks.tiny_images import (
    ADVERSARY,
    RATES,
    RAW,
    SIZE,
    changed_parts,
    tiny_model,
    view_batch,
    write_tiny_clips,
)
from tests.tiny import tiny_portrait_config

PLAIN = {"image": 1.0, "image_raw": 1.0, "edges": 0.5, "mask": 0.1, "density": 0.25}


@pytest.fixture
def config():
    return I2PConfig(
        model=tiny_model(1),
        teacher="procedural",
        loss=PLAIN,
        adversary=ADVERSARY,
        learning_rates=replace(RATES, generator=3e-3),
    )


@pytest.fixture
def eg3d(config, monkeypatch, tmp_path):
    """Stage 1 with a tiny EG3D from a file, and cameras of clips."""
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    torch.manual_seed(3)
    networks = EG3DGenerator(CONFIG), DualDiscriminator(ADVERSARY.discriminator)
    write_snapshot(monkeypatch, tmp_path / "tiny.pkl", *networks)
    write_tiny_clips(tmp_path / "clips", clips=2)
    return replace(
        config,
        model=tiny_model(1, superresolution=replace(CONFIG.superresolution, clamp=None)),
        teacher="eg3d",
        eg3d=EG3DViewsConfig(snapshot="tiny.pkl", pose_clips=str(tmp_path / "clips")),
        loss={
            "image": 1.0,
            "image_raw": 1.0,
            "adversarial_reference": 0.1,
            "adversarial_target": 0.025,
            "density": 0.25,
        },
        start_adversarial=0,
        initial_weights="none",
    )


def test_the_reference_view_is_rare_at_first():
    steps = [step for step in range(30) if reference_runs(step, start_adversarial=30_000)]
    assert steps == [4, 9, 14, 19, 24, 29]
    assert [reference_runs(s, 30_000) for s in (30_000, 30_001, 35_000, 35_001)] == [False, True, True, True]


def test_every_part_learns_from_both_views(config, generator):
    task = I2PTask(config, generator)
    before = deepcopy(task.modules)
    losses = Steps(task)(view_batch(generator), step=19)
    assert {
        "reference_image",
        "target_image",
        "target_image_raw",
        "target_edges",
        "target_mask",
        "target_density",
    } <= losses.keys()
    assert changed_parts(before, task.modules) == {"image_to_plane", "renderer", "superresolution"}


def test_a_step_without_the_reference_view_trains_the_target_alone(config, generator):
    losses = Steps(I2PTask(config, generator))(view_batch(generator), step=0)
    assert losses and all(name.startswith("target_") for name in losses)


def test_the_discriminator_is_trained_from_the_start_and_the_generator_against_it_later(config, generator):
    loss = PLAIN | {"adversarial_reference": 0.1, "adversarial_target": 0.025}
    take_step = Steps(I2PTask(replace(config, loss=loss, start_adversarial=100), generator))
    batch = view_batch(generator)
    early, late = take_step(batch, step=4), take_step(batch, step=101)
    assert {"fake_1", "real_1"} <= early.keys()
    assert "target_adversarial" not in early and "target_adversarial" in late


def test_a_few_steps_lower_the_error(config, generator):
    take_step, batch = Steps(I2PTask(config, generator)), view_batch(generator)
    losses = [take_step(batch, step)["target_image"] for step in range(8)]
    assert losses[-1] < losses[0]


def test_the_same_seed_gives_the_same_weights_and_leaves_the_global_generator_alone(config):
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = (I2PTask(config, torch.Generator().manual_seed(1)) for _ in range(2))
    assert changed_parts(first.modules, second.modules) == set()
    assert torch.equal(torch.rand(1), expected)


def test_validation_measures_and_shows(config, generator):
    task, batch = I2PTask(config, generator), view_batch(generator)
    with torch.no_grad():
        assert {"psnr", "psnr_turned", "psnr_raw"} <= task.validation_step(batch).keys()
        assert task.pictures(batch)["source_and_turned"].shape == (12 * (SMALLEST + CAPTION), 2 * SMALLEST, 3)


def test_only_a_run_from_scratch_asks_for_imagenet_weights(config, generator, tmp_path):
    task = I2PTask(config, generator)  # built without any file
    with pytest.raises(UserError, match="not those of ResNet-34"):  # the tiny one has no published weights
        task.begin()
    I2PTask(replace(config, initial_weights="none"), generator).begin()
    save_checkpoint(tmp_path / "run", {"task": "i2p"}, task.modules)
    warm = I2PTask(replace(config, init_from=str(tmp_path / "run")), generator)  # built without the run
    assert changed_parts(warm.modules, task.modules)
    warm.begin()
    assert changed_parts(warm.modules, task.modules) == set()


def test_a_model_of_another_stage_is_refused(config):
    with pytest.raises(ValueError, match="stage 1"):
        replace(config, model=tiny_model(2))


def test_every_declared_input_is_given_and_every_loss_has_its_inputs(config, generator):
    task, batch = I2PTask(config, generator), view_batch(generator)
    teacher = task.teacher_batch(batch)
    inputs = task.inputs(task.rendered(teacher.views[0], teacher.views[1]), teacher, 1)
    check_inputs(INPUTS, inputs, B=2, S=SIZE, R=RAW)
    assert {name for term in TERMS.values() for name in term.inputs} <= inputs.keys()


@pytest.mark.parametrize(
    "loss, words", [({"lips": 5.0}, "loss.lips is no loss of this stage"), ({"image": -1.0}, "loss.image is -1.0")]
)
def test_weights_without_an_effect_are_refused_by_name(config, loss, words):
    with pytest.raises(ValueError, match=words):
        replace(config, loss=loss)


def test_a_mask_loss_needs_a_teacher_that_knows_masks(config):
    with pytest.raises(ValueError, match="loss.mask is 0.1, but needs head_raw"):
        replace(config, teacher="eg3d")


def test_a_discriminator_of_another_size_is_refused_at_the_start(config):
    with pytest.raises(ValueError, match="discriminator.resolution is 32; the model's pictures have 64"):
        replace(config, model=tiny_portrait_config(1), loss=PLAIN | {"adversarial_target": 0.1})
    follows = replace(config, adversary=AdversaryConfig(), loss=PLAIN | {"adversarial_target": 0.1})
    assert follows.adversary.discriminator.resolution == SIZE


def test_every_weight_is_the_factor_of_its_term(config, generator):
    def make(weights):
        loss = weights | {"adversarial_reference": 0.1, "adversarial_target": 0.1}
        return I2PTask(replace(config, loss=loss, start_adversarial=0), torch.Generator().manual_seed(0))

    weights = {name: PLAIN[name] for name in ("image", "image_raw", "edges", "mask", "density")}
    check_factors(make, weights, view_batch(generator), step=19)


@pytest.mark.parametrize("view", ["reference", "target"])
def test_reference_and_target_have_adversarial_weights_of_their_own(config, generator, view):
    def terms(weight):
        loss = PLAIN | {f"adversarial_{view}": weight}
        task = I2PTask(replace(config, loss=loss, start_adversarial=0), torch.Generator().manual_seed(0))
        return {name: term for name, term in generator_terms(task, batch, step=1).items() if "adversarial" in name}

    batch = view_batch(generator)
    once, twice = terms(0.1), terms(0.2)
    assert once.keys() == twice.keys() == {f"{view}_adversarial"}
    torch.testing.assert_close(twice[f"{view}_adversarial"], 2 * once[f"{view}_adversarial"])


def moments_after_a_push(optimizer):
    """What a step without gradients does after one with them: the largest move, and the share left of the squares."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    for group in optimizer.param_groups:
        group["lr"] = 1e-3
    for push in (1.0, 0.0):
        before = [p.detach().clone() for p in parameters]
        squares = {p: optimizer.state[p]["exp_avg_sq"].clone() for p in parameters if p in optimizer.state}
        for p in parameters:
            p.requires_grad_(True).grad = torch.full_like(p, push)
        optimizer.step()
    moved = max(float((p - old).detach().abs().max()) for p, old in zip(parameters, before))
    return moved, float((optimizer.state[parameters[0]]["exp_avg_sq"] / squares[parameters[0]]).mean())


def test_no_optimiser_has_momentum_and_the_discriminators_is_adjusted_to_its_lazy_penalty(config, generator):
    loss = PLAIN | {"adversarial_reference": 0.1, "adversarial_target": 0.025}
    specs = {spec.name: spec for spec in I2PTask(replace(config, loss=loss), generator).optimizers()}
    moved, left = zip(*(moments_after_a_push(build_optimizer(specs[name])) for name in ("generator", "discriminator")))
    assert moved == (0.0, 0.0)
    assert left[0] == pytest.approx(0.99, abs=1e-5)
    assert left[1] ** 17 == pytest.approx(0.99**16, abs=1e-5)  # 16 steps and a penalty are 17 updates


def test_the_metric_of_the_best_checkpoint_gets_better_when_the_losses_fall(config, generator):
    batch = view_batch(generator)
    batch["images"] = 220 * batch["masks"][:, :, None].expand_as(batch["images"]).byte()  # flat, bright heads
    assert gain_of_best_metric(I2PTask(config, generator), batch, steps=60) > 0.1


def test_the_best_checkpoint_is_that_of_the_perceptual_loss_and_never_of_psnr_beside_an_adversary(
    config, generator, monkeypatch
):
    configs = replace(config, loss=PLAIN), replace(config, loss=PLAIN | {"adversarial_target": 0.1})
    check_best_metric(I2PTask, configs, view_batch(generator), ("psnr_turned", "perceptual_turned"), monkeypatch)


def test_a_generator_from_a_file_teaches(eg3d, generator):
    task = I2PTask(eg3d, generator)
    task.begin()
    before = deepcopy(task.modules)
    seeds, take_step = task.train_dataset(), Steps(task)
    losses = [take_step(default_collate([seeds[0], seeds[1]]), step) for step in range(15, 24)]
    names = {f"{view}_{term}" for view in ("reference", "target") for term in ("image", "image_raw", "adversarial")}
    assert {*names, "target_density", "fake_1", "real_1", "gradient_penalty_1"} <= losses[0].keys()
    assert losses[-1]["target_image"] < losses[0]["target_image"]
    assert changed_parts(before, task.modules) == {"image_to_plane", "renderer", "superresolution", "discriminator"}
    batch = default_collate([task.validation_dataset()[0]])
    with torch.no_grad():
        assert task.validation_step(batch)["psnr_turned"] > 5
        assert task.pictures(batch)["source_and_turned"].shape == (12 * (SMALLEST + CAPTION), SMALLEST, 3)


def test_a_run_begins_with_the_teachers_weights_and_resumes_without(eg3d, generator):
    task, resumed = (I2PTask(eg3d, torch.Generator().manual_seed(5)) for _ in range(2))
    drawn = deepcopy(task.modules)
    task.begin()
    assert changed_parts(drawn, task.modules) == {"renderer", "superresolution", "discriminator"}
    assert changed_parts(drawn, resumed.modules) == set()  # the trainer loads the checkpoint's
    assert changed_parts({"": task.modules["renderer"]}, {"": task.teacher.generator.renderer}) == set()


def test_only_a_new_run_asks_for_the_run_it_starts_from(config, generator):
    task = I2PTask(replace(config, init_from="gone"), generator)
    with pytest.raises(UserError, match="gone"):
        task.begin()


def test_squared_errors_are_those_of_the_papers_formula(config, generator):
    batch = view_batch(generator)

    def terms(error):
        task = I2PTask(replace(config, image_error=error), torch.Generator().manual_seed(0))
        teacher = task.teacher_batch(batch)
        output = task.rendered(teacher.views[0], teacher.views[1])
        difference = (output.image - teacher.views[1].image).detach()
        state = StepState(progress=0.0, generator=generator)
        weighted_terms(TERMS, task.config.loss, task.inputs(output, teacher, 1), state)
        return difference, state.unweighted

    (difference, plain), (again, squared) = terms("l1"), terms("squared")
    torch.testing.assert_close(plain["image"], difference.abs().mean())
    torch.testing.assert_close(squared["image"], again.square().mean())
    assert squared["image_raw"] < 0.9 * plain["image_raw"]


def test_densities_are_compared_in_float32_under_autocast(config, generator):
    model = I2PTask(config, generator).model
    planes = torch.randn(1, 3, 4, 16, 16, generator=generator)

    def loss(automatic):
        model.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=automatic):
            loss = density_loss(model, planes, 0.005, torch.Generator().manual_seed(0))
        loss.backward()
        return loss, model.renderer.decoder.net[0].weight.grad

    for automatic, exact in zip(loss(True), loss(False)):
        torch.testing.assert_close(automatic, exact)


def test_densities_are_compared_in_planes_of_one_random_resolution(config, generator, monkeypatch):
    renderer = tiny_portrait_config(1).renderer
    task = I2PTask(replace(config, model=tiny_model(1, renderer=replace(renderer, least_plane_scale=0.5))), generator)
    sides = []
    monkeypatch.setattr(
        task.model.renderer, "density", lambda planes, points: sides.append(planes.shape[-1]) or points[..., :1]
    )
    for seed in range(40):
        density_loss(task.model, torch.zeros(1, 3, 4, 8, 8), 0.005, torch.Generator().manual_seed(seed))
    assert sides[::2] == sides[1::2] and set(sides) == {4, 5, 6, 7, 8}


def test_a_run_that_begins_with_a_head_prior_is_compared_with_its_start(config, generator):
    assert not I2PTask(config, generator).warm
    assert I2PTask(replace(config, init_from="runs/i2p"), generator).warm
    assert I2PTask(replace(config, model=Real3DPortraitConfig.demo(1)), generator).warm
