from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from modules.layers.segformer import MiTConfig
from modules.losses.image import masked_l1
from modules.portrait.discriminator import DualDiscriminatorConfig
from modules.system.checkpoint import save_checkpoint
from modules.system.errors import UserError
from tasks.data.frame_pairs import ClipDataConfig
from tasks.stages.adversary import AdversaryConfig
from tasks.stages.learning_rates import RateConfig
from tasks.stages.motion_adapter import MotionAdapterLossConfig, MotionAdapterTask, MotionAdapterTaskConfig
from tests.tasks.terms import gain_of_best_metric, generator_terms
from tests.tasks.tiny_images import SIZE, changed_parts, pair_batch, run_step, tiny_model

PLAIN = MotionAdapterLossConfig(perceptual=0, perceptual_raw=0, lips_perceptual=0, adversarial=0, edges=0.5)


@pytest.fixture
def config():
    return MotionAdapterTaskConfig(
        model=tiny_model(2), data=ClipDataConfig(face_model="procedural", pncc_size=SIZE), loss=PLAIN,
        adversary=AdversaryConfig(discriminator=DualDiscriminatorConfig(
            resolution=SIZE, base_channels=256, max_channels=8, mapping_layers=1)),
        rates=RateConfig(kind="linear", warmup=1))


def test_all_parts_of_the_head_learn(config, generator):
    task = MotionAdapterTask(config, generator)
    before = deepcopy(task.modules)
    losses = run_step(task, pair_batch(generator), step=3)
    expected = {"image", "image_raw", "edges", "lips", "mask", "entropy", "density", "laplacian", "eye_closing"}
    assert {name.split("/")[1] for name in losses} == expected
    assert changed_parts(before, task.modules) == {"image_to_plane", "motion_adapter", "renderer", "superresolution"}


def test_the_source_is_its_own_target_now_and_then(config, generator):
    task = MotionAdapterTask(config, generator)
    assert any("source_" in name for name in run_step(task, pair_batch(generator), step=16))
    assert not any("source_" in name for name in run_step(task, pair_batch(generator), step=17))


def test_no_fine_tuning_leaves_the_planes_alone(config, generator):
    task = MotionAdapterTask(replace(config, rates=RateConfig(kind="linear", warmup=1, i2p=0.0)), generator)
    before = deepcopy(task.modules)
    run_step(task, pair_batch(generator), step=3)
    assert "image_to_plane" not in changed_parts(before, task.modules)


def test_noise_on_the_coefficients_has_a_weight_that_tunes_itself(config, generator):
    noisy = replace(config, loss=replace(PLAIN, perturbation=1e-6, laplacian=0), data=replace(config.data,
                                                                                             perturbation=0.01))
    task, batch = MotionAdapterTask(noisy, generator), pair_batch(generator)
    first, second = (run_step(task, batch, step)["generator/perturbation"] for step in (3, 7))
    assert 0 < first < second                                        # far above its target: the weight grows
    with pytest.raises(ValueError, match="data.perturbation 0"):
        replace(config, loss=replace(PLAIN, perturbation=0.5))


def test_two_pnccs_leave_the_source_out(config, generator):
    adapter = replace(config.model.motion_adapter, pictures=2)
    task = MotionAdapterTask(replace(config, model=replace(config.model, motion_adapter=adapter)), generator)
    pncc = torch.arange(5.0).view(1, 5, 1, 1, 1).expand(1, 5, 3, SIZE, SIZE)
    assert task.driven_by(pncc, 3)[0, :, 0, 0, 0].tolist() == [0, 3]
    assert MotionAdapterTask(config, generator).driven_by(pncc, 3)[0, :, 0, 0, 0].tolist() == [0, 1, 3]
    run_step(task, pair_batch(generator), step=3)


def test_adversarial_training_starts_late(config, generator):
    task = MotionAdapterTask(replace(config, loss=replace(PLAIN, adversarial=0.002), start_adversarial=20_000),
                             generator)
    batch = pair_batch(generator)
    assert not any("discriminator" in name for name in run_step(task, batch, step=9_999))
    early = run_step(task, batch, step=10_001)
    assert "discriminator/real_1" in early and "generator/adversarial" not in early
    assert "generator/adversarial" in run_step(task, batch, step=20_001)


def test_the_first_steps_lower_the_loss(config, generator):
    task = MotionAdapterTask(replace(config, rates=RateConfig(kind="linear", warmup=1, generator=3e-3, i2p=3e-3)),
                             generator)
    batch = pair_batch(generator)

    def error():
        with torch.no_grad():
            source, target = task.truth(batch, 0), task.truth(batch, 1)
            output = task.driven(batch, source, target)
            return masked_l1(output.image, target.image, torch.ones(2, 1, SIZE, SIZE, dtype=torch.bool))

    first = error()
    for step in range(1, 8):
        run_step(task, batch, step)
    assert error() < first


def test_validation_measures_and_shows(config, generator):
    task, batch = MotionAdapterTask(config, generator), pair_batch(generator)
    with torch.no_grad():
        assert all(torch.isfinite(torch.as_tensor(v)) for v in task.validation_step(batch).values())
        picture = task.pictures(batch)["source_target_output"]
    assert picture.shape == (6 * SIZE, 2 * SIZE, 3) and picture.dtype == torch.uint8


def test_settings_that_do_not_fit_are_refused(config):
    with pytest.raises(ValueError, match="pncc_size is 64"):
        replace(config, data=replace(config.data, pncc_size=64))
    with pytest.raises(ValueError, match="motion_adapter"):
        replace(config, model=tiny_model(1))


def test_a_missing_start_is_explained(config, generator, tmp_path):
    with pytest.raises(UserError):
        MotionAdapterTask(replace(config, init_from=str(tmp_path / "nothing")), generator)


def test_encoders_that_the_start_lacks_get_imagenet_weights(config, generator, tmp_path, monkeypatch):
    monkeypatch.setenv("REAL3D_ASSETS", str(tmp_path))
    adapter = replace(config.model.motion_adapter, encoder=MiTConfig())
    config = replace(config, model=replace(config.model, motion_adapter=adapter))
    first = MotionAdapterTask(config, generator)
    mit = {key: torch.rand(value.shape, generator=generator)
           for key, value in first.model.motion_adapter.mix_vit.state_dict().items()}
    with pytest.raises(UserError, match="not those of ResNet-34"):     # from scratch, both encoders
        first.begin()
    MotionAdapterTask(replace(config, initial_weights="none"), generator).begin()
    save_checkpoint(tmp_path / "stage 2", {"task": "motion_adapter"}, first.modules)
    save_checkpoint(tmp_path / "stage 1", {"task": "i2p"}, {name: part for name, part in first.modules.items()
                                                            if name != "motion_adapter"})
    after_2, after_1 = (MotionAdapterTask(replace(config, init_from=str(tmp_path / start)), generator)
                        for start in ("stage 2", "stage 1"))
    after_2.begin()                                                    # asks for nothing
    assert changed_parts(after_2.modules, first.modules) == set()
    torch.save(mit, tmp_path / "mit_b0.pth")
    after_1.begin()
    assert all(torch.equal(value, mit[key]) for key, value in after_1.model.motion_adapter.mix_vit.state_dict().items())
    assert changed_parts(after_1.modules, first.modules) == {"motion_adapter"}


def test_every_weight_is_the_factor_of_its_term(config, generator):
    batch = pair_batch(generator)

    def terms(**weights):
        loss = replace(PLAIN, adversarial=0.1, **weights)
        task = MotionAdapterTask(replace(config, loss=loss, start_adversarial=0), torch.Generator().manual_seed(0))
        return generator_terms(task, batch, step=47)

    plain = terms()
    for weight in ("image", "image_raw", "edges", "lips", "mask", "entropy", "density", "laplacian"):
        doubled = terms(**{weight: 2 * getattr(PLAIN, weight)})
        assert {name.removeprefix("source_") for name in plain} >= {weight}
        for name in plain:
            torch.testing.assert_close(doubled[name], (1 + (name.removeprefix("source_") == weight)) * plain[name])


def test_what_is_computed_now_and_then_counts_for_the_steps_between(config, generator):
    batch = pair_batch(generator)

    def terms(every):
        loss = replace(PLAIN, density_every=every, laplacian_every=every)
        task = MotionAdapterTask(replace(config, loss=loss), torch.Generator().manual_seed(0))
        return [generator_terms(task, batch, step) for step in (1, 2, 3)]

    always, lazy = terms(1), terms(4)
    for name in ("density", "laplacian", "eye_closing"):
        assert [name in found for found in always] == [True, True, True]
        assert [name in found for found in lazy] == [False, False, True]
    for name in ("density", "laplacian"):
        torch.testing.assert_close(lazy[2][name], 4 * always[2][name])


def test_an_error_far_from_the_head_counts_a_fifth(config, generator):
    """The target is black; once all of it is head, once nothing."""
    batch = pair_batch(generator) | {"target_image": torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)}
    task = MotionAdapterTask(config, generator)
    inside, outside = (generator_terms(task, batch | {"target_classes": torch.full((2, SIZE, SIZE), part).byte()}, 1)
                       for part in (3, 0))
    for name in ("image", "image_raw"):
        assert float(outside[name] / inside[name]) == pytest.approx(0.2, rel=0.02)


def test_the_metric_of_the_best_checkpoint_gets_better_when_the_losses_fall(config, generator):
    assert gain_of_best_metric(MotionAdapterTask(config, generator), pair_batch(generator)) > 0.1
