from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from modules.portrait.discriminator import DualDiscriminatorConfig
from modules.portrait.real3d_portrait import Real3DPortrait
from modules.system.checkpoint import save_checkpoint
from tasks.data.frame_pairs import ClipDataConfig
from tasks.stages.adversary import AdversaryConfig
from tasks.stages.htbsr import HTBSRLossConfig, HTBSRTask, HTBSRTaskConfig
from tasks.stages.learning_rates import RateConfig
from tests.tasks.terms import gain_of_best_metric, generator_terms
from tests.tasks.tiny_images import SIZE, changed_parts, pair_batch, run_step, tiny_model

PLAIN = HTBSRLossConfig(perceptual=0, lips_perceptual=0, adversarial=0, edges=0.5, occlusion=0.1, occlusion_2=0.1)


@pytest.fixture
def config():
    return HTBSRTaskConfig(
        model=tiny_model(3), data=ClipDataConfig(face_model="procedural", pncc_size=SIZE, torso=True), loss=PLAIN,
        adversary=AdversaryConfig(discriminator=DualDiscriminatorConfig(
            resolution=SIZE, base_channels=256, max_channels=8, mapping_layers=1)),
        rates=RateConfig(kind="linear", warmup=1))


def test_only_htbsr_learns(config, generator):
    task = HTBSRTask(config, generator)
    before = deepcopy(task.modules)
    losses = run_step(task, pair_batch(generator), step=3)
    assert {name.split("/")[1] for name in losses} == {
        "image", "edges", "lips", "occlusion_entropy", "occlusion", "occlusion_2"}
    assert changed_parts(before, task.modules) == {"htbsr"}


def test_source_to_source_has_its_own_losses_every_fourth_step(config, generator):
    task = HTBSRTask(config, generator)
    found = [any("source_" in name for name in run_step(task, pair_batch(generator), step)) for step in range(3, 6)]
    assert found == [False, True, False]


def test_the_discriminator_sees_frame_and_head(config, generator):
    task = HTBSRTask(replace(config, loss=replace(PLAIN, adversarial=0.001), start_adversarial=0), generator)
    losses = run_step(task, pair_batch(generator), step=15)
    assert {"generator/adversarial", "discriminator/fake_0", "discriminator/real_0",
            "discriminator/gradient_penalty_0"} <= losses.keys()


def test_it_starts_from_stage_two(config, generator, tmp_path):
    head = Real3DPortrait(tiny_model(2))
    save_checkpoint(tmp_path / "stage2", {"task": "motion_adapter"}, dict(head.named_children()))
    task = HTBSRTask(replace(config, init_from=str(tmp_path / "stage2")), generator)
    for name in ("image_to_plane", "motion_adapter", "renderer"):
        ours, theirs = task.modules[name].state_dict(), getattr(head, name).state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    blocks = head.superresolution.state_dict()
    assert all(torch.equal(task.model.htbsr.state_dict()[key], blocks[key]) for key in blocks)


def test_learned_key_points_are_found_on_both_frames_and_learn(config, generator):
    torso = replace(config.model.htbsr.torso, keypoint_source="learned", detector_channels=(4, 8))
    model = replace(config.model, htbsr=replace(config.model.htbsr, torso=torso))
    loss = replace(PLAIN, equivariance=0.5, spread=0.5)
    task, batch = HTBSRTask(replace(config, model=model, loss=loss), generator), pair_batch(generator)
    assert task.keypoints(batch, 0).shape == (2, 4, 3)
    assert not torch.equal(task.keypoints(batch, 0), task.keypoints(batch, 1))
    before = deepcopy(task.model.htbsr.torso_model.keypoint_detector.state_dict())
    assert {"generator/equivariance", "generator/spread"} <= run_step(task, batch, step=3).keys()
    after = task.model.htbsr.torso_model.keypoint_detector.state_dict()
    assert not torch.equal(before["out_conv.weight"], after["out_conv.weight"])
    with pytest.raises(ValueError, match="loss.spread 0.5"):
        replace(config, loss=loss)


def test_the_background_may_be_the_photo_itself(config, generator):
    def picture(kind: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        task = HTBSRTask(replace(config, background=kind), torch.Generator().manual_seed(0))
        task.model.eval()                                            # no dropout
        with torch.no_grad():
            return task.frames(batch, 1).image

    batch = pair_batch(generator)
    photo = picture("source", batch)
    assert not torch.equal(picture("inpainted", batch), photo)
    assert torch.equal(picture("inpainted", {**batch, "background": batch["source_image"]}), photo)


def test_validation_measures_and_shows(config, generator):
    task, batch = HTBSRTask(config, generator), pair_batch(generator)
    with torch.no_grad():
        assert all(torch.isfinite(torch.as_tensor(v)) for v in task.validation_step(batch).values())
        assert task.pictures(batch)["source_target_output"].shape[1:] == (2 * SIZE, 3)


def test_clips_without_torso_are_refused(config):
    with pytest.raises(ValueError, match="torso"):
        replace(config, data=replace(config.data, torso=False))


def test_every_weight_is_the_factor_of_its_term(config, generator):
    batch = pair_batch(generator)
    start = replace(PLAIN, l1=0.1, torso_cover=0.1, torso_image=0.1, adversarial=0.1)

    def terms(**weights):
        task = HTBSRTask(replace(config, loss=replace(start, **weights), start_adversarial=0),
                         torch.Generator().manual_seed(0))
        return generator_terms(task, batch, step=4)

    plain = terms()
    for weight in ("image", "l1", "edges", "lips", "adversarial", "occlusion_entropy", "occlusion", "occlusion_2",
                   "torso_cover", "torso_image"):
        doubled = terms(**{weight: 2 * getattr(start, weight)})
        assert {name.removeprefix("source_") for name in plain} >= {weight}
        for name in plain:
            torch.testing.assert_close(doubled[name], (1 + (name.removeprefix("source_") == weight)) * plain[name])


def test_an_error_far_from_the_torso_counts_a_half(config, generator):
    """The target is black; once all of it is torso, once nothing."""
    batch = pair_batch(generator) | {"target_image": torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)}
    task = HTBSRTask(config, generator)
    inside, outside = (generator_terms(task, batch | {"target_classes": torch.full((2, SIZE, SIZE), part).byte()}, 1)
                       for part in (4, 0))
    assert float(outside["image"] / inside["image"]) == pytest.approx(0.5, rel=0.02)


def test_the_discriminator_learns_for_ten_thousand_steps_before_it_is_heard(config, generator):
    task = HTBSRTask(replace(config, loss=replace(PLAIN, adversarial=0.001), start_adversarial=40_000), generator)
    batch, found = pair_batch(generator), []
    for step in (29_999, 30_000, 39_999, 40_000):
        names = run_step(task, batch, step).keys()
        found.append(("discriminator/real_0" in names, "generator/adversarial" in names))
    assert found == [(False, False), (True, False), (True, False), (True, True)]


def test_the_metric_of_the_best_checkpoint_gets_better_when_the_losses_fall(config, generator):
    assert gain_of_best_metric(HTBSRTask(config, generator), pair_batch(generator)) > 0.1
