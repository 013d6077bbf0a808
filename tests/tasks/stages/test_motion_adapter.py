from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from modules.clips.fields import FIELDS
from modules.layers.segformer import MiTConfig
from modules.losses.image import masked_l1
from modules.system.checkpoint import save_checkpoint
from modules.system.errors import UserError
from tasks.data.frame_pairs import ClipDataConfig
from tasks.engine.sheet import CAPTION, SMALLEST
from tasks.stages.motion_adapter import INPUTS, TERMS, MotionAdapterTask, MotionAdapterTaskConfig
from tests.tasks.steps import Steps
from tests.tasks.terms import check_best_metric, check_factors, check_inputs, gain_of_best_metric, generator_terms
from tests.tasks.tiny_images import ADVERSARY, RATES, RAW, SIZE, changed_parts, pair_batch, tiny_model

PLAIN = {
    "image": 1.0,
    "image_raw": 1.0,
    "edges": 0.5,
    "lips": 0.5,
    "mask": 0.1,
    "entropy": 0.01,
    "density": 0.25,
    "laplacian": 0.1,
}


@pytest.fixture
def config():
    return MotionAdapterTaskConfig(
        model=tiny_model(2),
        data=ClipDataConfig(eye_closing=True),
        loss=PLAIN,
        loss_targets={"eye_closing": 0.3},
        adversary=ADVERSARY,
        learning_rates=RATES,
    )


def test_all_parts_of_the_head_learn(config, generator):
    task = MotionAdapterTask(config, generator)
    before = deepcopy(task.modules)
    losses = Steps(task)(pair_batch(generator), step=3)
    expected = {"image", "image_raw", "edges", "lips", "mask", "entropy", "density", "laplacian", "eye_closing"}
    assert losses.keys() == expected
    heads = {"image_to_plane", "motion_adapter", "renderer", "superresolution"}
    assert changed_parts(before, task.modules) == heads | {"eye_closing_weight"}


def test_losses_of_fixed_modules_are_not_computed(config, generator):
    task = MotionAdapterTask(replace(config, superresolution_alone_from=7), generator)
    take_step, batch = Steps(task), pair_batch(generator)
    lazy = {"density", "laplacian", "eye_closing"}
    assert lazy <= take_step(batch, step=3).keys()
    assert not lazy & take_step(batch, step=7).keys() and "image" in take_step(batch, step=7)


def test_an_item_has_the_neighbours_if_the_laplacian_reads_them(config, generator):
    assert MotionAdapterTask(config, generator).reads_neighbours
    assert not MotionAdapterTask(replace(config, loss=PLAIN | {"laplacian": 0.0}), generator).reads_neighbours


def test_the_source_is_its_own_target_at_intervals(config, generator):
    take_step = Steps(MotionAdapterTask(config, generator))
    assert any("source_" in name for name in take_step(pair_batch(generator), step=16))
    assert not any("source_" in name for name in take_step(pair_batch(generator), step=17))


def test_no_fine_tuning_leaves_the_planes_alone(config, generator):
    rates = replace(config.learning_rates, image_to_plane=0.0)
    task = MotionAdapterTask(replace(config, learning_rates=rates), generator)
    before = deepcopy(task.modules)
    Steps(task)(pair_batch(generator), step=3)
    assert "image_to_plane" not in changed_parts(before, task.modules)


def test_a_fixed_network_has_no_dropout_and_keeps_its_statistics(config, generator):
    task = MotionAdapterTask(replace(config, freeze_image_to_plane_at=5), generator)
    take_step, batch = Steps(task), pair_batch(generator)
    photo = task.frames(batch).photo()

    def planes():
        return task.model.canonical_planes(photo).detach()

    take_step(batch, step=4)
    assert not torch.equal(planes(), planes())  # learning, with dropout
    before = deepcopy(task.modules)
    take_step(batch, step=5)
    assert torch.equal(planes(), planes())
    assert changed_parts(before, task.modules) == {"motion_adapter", "renderer", "superresolution"}


def test_the_laplacian_is_the_papers_norm_or_a_mean(config):
    values = {}
    for kind in ("norm", "mean"):
        task = MotionAdapterTask(replace(config, laplacian=kind), torch.Generator().manual_seed(0))
        batch = pair_batch(torch.Generator().manual_seed(1))
        values[kind] = Steps(task)(batch, step=3)["laplacian"]
    with torch.no_grad():
        count = task.model.motion_planes(task.frames(batch).pncc_of(1))[0].numel()
    assert values["norm"] == pytest.approx(count * values["mean"], rel=1e-4) and values["mean"] > 0


def test_noise_on_the_coefficients_has_an_auto_tuned_weight(config, generator):
    noisy = replace(config, loss_targets={"perturbation": 1e-6}, data=replace(config.data, perturbation=0.01))
    take_step, batch = Steps(MotionAdapterTask(noisy, generator)), pair_batch(generator)
    first, second = (take_step(batch, step)["perturbation"] for step in (3, 7))
    assert 0 < first < second  # far above its target: the weight grows
    with pytest.raises(ValueError, match="data.perturbation 0"):
        replace(config, loss_targets={"perturbation": 0.5})
    with pytest.raises(ValueError, match="data.eye_closing false"):
        replace(config, data=replace(config.data, eye_closing=False))


@pytest.mark.parametrize("names", [("canonical", "driving"), ("source", "driving")])
def test_the_adapter_may_read_two_pnccs(config, generator, names):
    adapter = replace(config.model.motion_adapter, pncc_inputs=names)
    task = MotionAdapterTask(replace(config, model=replace(config.model, motion_adapter=adapter)), generator)
    assert Steps(task)(pair_batch(generator), step=3)


def test_adversarial_training_starts_late(config, generator):
    config = replace(config, loss=PLAIN | {"adversarial": 0.002}, start_adversarial=20_000, discriminator_lead=10_000)
    take_step, batch = Steps(MotionAdapterTask(config, generator)), pair_batch(generator)
    assert "real_1" not in take_step(batch, step=9_999)
    early = take_step(batch, step=10_001)
    assert "real_1" in early and "adversarial" not in early
    assert "adversarial" in take_step(batch, step=20_001)


def test_the_first_steps_lower_the_loss(config, generator):
    rates = replace(config.learning_rates, generator=3e-3)
    task = MotionAdapterTask(replace(config, learning_rates=rates), generator)
    take_step, batch = Steps(task), pair_batch(generator)

    def error():
        with torch.no_grad():
            frames = task.frames(batch)
            everywhere = torch.ones(2, 1, SIZE, SIZE, dtype=torch.bool)
            return masked_l1(task.reenacted(frames).image, frames.target.head, everywhere)

    first = error()
    for step in range(1, 8):
        take_step(batch, step)
    assert error() < first


def test_validation_measures_and_shows(config, generator):
    task, batch = MotionAdapterTask(config, generator), pair_batch(generator)
    with torch.no_grad():
        assert all(torch.isfinite(torch.as_tensor(v)) for v in task.validation_step(batch).values())
        picture = task.pictures(batch)["source_target_output"]
    assert picture.shape == (6 * (SMALLEST + CAPTION), 2 * SMALLEST, 3) and picture.dtype == torch.uint8


def test_settings_that_do_not_fit_are_refused(config):
    with pytest.raises(ValueError, match="pncc_size is 64"):
        replace(config, data=replace(config.data, pncc_size=64))
    with pytest.raises(ValueError, match="motion_adapter"):
        replace(config, model=tiny_model(1))
    with pytest.raises(ValueError, match="data.face_model is ict"):
        replace(config, data=replace(config.data, face_model="ict"))
    with pytest.raises(ValueError, match="loss.planes is no loss of this stage"):
        replace(config, loss=PLAIN | {"planes": 0.1})


def test_every_declared_input_is_given_and_every_loss_has_its_inputs(config, generator):
    task = MotionAdapterTask(replace(config, data=replace(config.data, fields=tuple(FIELDS))), generator)
    frames = task.frames(pair_batch(generator))
    inputs = task.inputs(task.reenacted(frames), frames.target)
    assert inputs.keys() == {*INPUTS, *FIELDS}
    check_inputs(INPUTS, inputs, B=2, S=SIZE, R=RAW)
    assert {name for term in TERMS.values() for name in term.inputs} <= inputs.keys()


def test_only_a_run_that_begins_needs_the_checkpoint_it_starts_from(config, generator, tmp_path):
    task = MotionAdapterTask(replace(config, init_from=str(tmp_path / "nothing")), generator)
    with pytest.raises(UserError, match="no checkpoint in"):
        task.begin()


def test_encoders_that_the_start_lacks_get_imagenet_weights(config, generator, tmp_path, monkeypatch):
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    adapter = replace(config.model.motion_adapter, encoder=MiTConfig())
    config = replace(config, model=replace(config.model, motion_adapter=adapter))
    first = MotionAdapterTask(config, generator)
    mit = {
        key: torch.rand(value.shape, generator=generator)
        for key, value in first.model.motion_adapter.mix_vit.state_dict().items()
    }
    with pytest.raises(UserError, match="not those of ResNet-34"):  # from scratch, both encoders
        first.begin()
    MotionAdapterTask(replace(config, initial_weights="none"), generator).begin()
    save_checkpoint(tmp_path / "stage 2", {"task": "motion_adapter"}, first.modules)
    save_checkpoint(
        tmp_path / "stage 1",
        {"task": "i2p"},
        {name: part for name, part in first.modules.items() if name != "motion_adapter"},
    )
    after_2, after_1 = (
        MotionAdapterTask(replace(config, init_from=str(tmp_path / start)), generator)
        for start in ("stage 2", "stage 1")
    )
    after_2.begin()  # asks for no file
    assert changed_parts(after_2.modules, first.modules) == set()
    torch.save(mit, tmp_path / "mit_b0.pth")
    after_1.begin()
    assert all(torch.equal(value, mit[key]) for key, value in after_1.model.motion_adapter.mix_vit.state_dict().items())
    assert changed_parts(after_1.modules, first.modules) == {"motion_adapter"}


def test_every_weight_is_the_factor_of_its_term(config, generator):
    def make(weights):
        loss = weights | {"adversarial": 0.1}
        return MotionAdapterTask(replace(config, loss=loss, start_adversarial=0), torch.Generator().manual_seed(0))

    check_factors(make, PLAIN, pair_batch(generator), step=47)


def test_losses_that_are_computed_at_intervals_count_for_the_steps_between(config, generator):
    batch = pair_batch(generator)

    def terms(every):
        lazy = replace(config, density_every=every, laplacian_every=every)
        task = MotionAdapterTask(lazy, torch.Generator().manual_seed(0))
        return [generator_terms(task, batch, step) for step in (1, 2, 3)]

    always, lazy = terms(1), terms(4)
    for name in ("density", "laplacian", "eye_closing"):
        assert [name in losses for losses in always] == [True, True, True]
        assert [name in losses for losses in lazy] == [False, False, True]
    for name in ("density", "laplacian"):
        torch.testing.assert_close(lazy[2][name], 4 * always[2][name])


def test_an_error_far_from_the_head_counts_a_fifth(config, generator):
    """The target is black; once all of it is head, once nothing."""
    batch = pair_batch(generator) | {"target_image": torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)}
    task = MotionAdapterTask(config, torch.Generator().manual_seed(1))
    inside, outside = (
        generator_terms(task, batch | {"target_classes": torch.full((2, SIZE, SIZE), part).byte()}, 1)
        for part in (3, 0)
    )
    for name in ("image", "image_raw"):
        assert float(outside[name] / inside[name]) == pytest.approx(0.2, rel=0.1)  # the limit on large errors


def test_the_metric_of_the_best_checkpoint_gets_better_when_the_losses_fall(config, generator):
    fast = replace(config, learning_rates=replace(RATES, generator=3e-3))
    assert gain_of_best_metric(MotionAdapterTask(fast, generator), pair_batch(generator)) > 0.1


def test_the_best_checkpoint_is_that_of_the_perceptual_loss_and_never_of_psnr_beside_an_adversary(
    config, generator, monkeypatch
):
    configs = config, replace(config, loss=PLAIN | {"adversarial": 0.001})
    check_best_metric(MotionAdapterTask, configs, pair_batch(generator), ("psnr", "perceptual"), monkeypatch)
