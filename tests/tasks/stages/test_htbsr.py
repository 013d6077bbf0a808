from copy import deepcopy
from dataclasses import replace

import pytest
import torch

from modules.clips.fields import FIELDS
from modules.media.pixels import to_float
from modules.portrait.build import build_portrait
from modules.system.checkpoint import save_checkpoint
from modules.system.config import to_dict
from modules.system.errors import UserError
from tasks.data.frame_pairs import ClipDataConfig
from tasks.engine.sheet import SMALLEST
from tasks.stages.htbsr import INPUTS, TERMS, HTBSRTask, HTBSRTaskConfig
from tests.tasks.steps import Steps
from tests.tasks.terms import check_best_metric, check_factors, check_inputs, gain_of_best_metric, generator_terms
from tests.tasks.tiny_images import ADVERSARY, RATES, RAW, SIZE, changed_parts, pair_batch, tiny_model

PLAIN = {"image": 1.0, "edges": 0.5, "lips": 0.2, "occlusion_entropy": 0.001, "occlusion": 0.1, "occlusion_2": 0.1}


@pytest.fixture
def config():
    return HTBSRTaskConfig(
        model=tiny_model(3), data=ClipDataConfig(torso=True), loss=PLAIN, adversary=ADVERSARY, learning_rates=RATES
    )


def test_only_htbsr_learns(config, generator):
    task = HTBSRTask(config, generator)
    before = deepcopy(task.modules)
    losses = Steps(task)(pair_batch(generator), step=3)
    assert losses.keys() == {"image", "edges", "lips", "occlusion_entropy", "occlusion", "occlusion_2"}
    assert changed_parts(before, task.modules) == {"htbsr"}


def test_self_reenactment_has_its_own_losses_every_fourth_step(config, generator):
    take_step = Steps(HTBSRTask(config, generator))
    own = [any("source_" in name for name in take_step(pair_batch(generator), step)) for step in range(3, 6)]
    assert own == [False, True, False]


def test_the_discriminator_sees_frame_and_head(config, generator):
    task = HTBSRTask(replace(config, loss=PLAIN | {"adversarial": 0.001}, start_adversarial=0), generator)
    losses = Steps(task)(pair_batch(generator), step=15)
    assert {"adversarial", "fake_0", "real_0", "gradient_penalty_0"} <= losses.keys()


def test_it_starts_from_stage_two(config, generator, tmp_path):
    head = build_portrait(tiny_model(2))
    save_checkpoint(tmp_path / "stage2", {"task": "motion_adapter"}, dict(head.named_children()))
    task = HTBSRTask(replace(config, init_from=str(tmp_path / "stage2")), generator)
    task.begin()
    for name in ("image_to_plane", "motion_adapter", "renderer"):
        ours, theirs = task.modules[name].state_dict(), getattr(head, name).state_dict()
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    blocks = head.superresolution.state_dict()
    assert all(torch.equal(task.decoder.state_dict()[key], blocks[key]) for key in blocks)


def test_only_a_run_that_begins_needs_the_checkpoint_it_starts_from(config, generator, tmp_path):
    task = HTBSRTask(replace(config, init_from=str(tmp_path / "nothing")), generator)
    with pytest.raises(UserError, match="no checkpoint in"):
        task.begin()


def test_two_face_models_are_refused(config, generator, tmp_path):
    with pytest.raises(ValueError, match="data.face_model is ict, model.driving.face_model procedural"):
        replace(config, data=replace(config.data, face_model="ict"))
    other = replace(tiny_model(2), driving=replace(config.model.driving, face_model="ict"))
    save_checkpoint(tmp_path / "stage2", {"model": to_dict(other)}, dict(build_portrait(other).named_children()))
    with pytest.raises(UserError, match="was trained with the ict face model, this config has procedural"):
        HTBSRTask(replace(config, init_from=str(tmp_path / "stage2")), generator).begin()


def test_learned_key_points_are_found_on_both_frames_and_learn(config, generator):
    torso = replace(config.model.htbsr.torso, keypoint_source="learned", detector_channels=(4, 8))
    model = replace(config.model, htbsr=replace(config.model.htbsr, torso=torso))
    loss = PLAIN | {"equivariance": 0.5, "spread": 0.5}
    task, batch = HTBSRTask(replace(config, model=model, loss=loss), generator), pair_batch(generator)
    frames = task.frames(batch)
    source, target = (frames.keypoints(frame, task.decoder) for frame in (frames.source, frames.target))
    assert source.shape == (2, 4, 3) and not torch.equal(source, target)
    before = deepcopy(task.decoder.torso_model.keypoint_detector.state_dict())
    assert {"equivariance", "spread"} <= Steps(task)(batch, step=3).keys()
    after = task.decoder.torso_model.keypoint_detector.state_dict()
    assert not torch.equal(before["out_conv.weight"], after["out_conv.weight"])
    with pytest.raises(ValueError, match="loss.equivariance is 0.5, but needs points"):
        replace(config, loss=loss)


def test_the_background_may_be_the_photo_itself(config, generator):
    def picture(kind: str, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        task = HTBSRTask(replace(config, background=kind, targets="raw"), torch.Generator().manual_seed(0))
        task.model.eval()  # no dropout
        with torch.no_grad():
            frames = task.frames(batch)
            return task.reenacted(frames, frames.target).image

    batch = pair_batch(generator)
    photo = picture("source", batch)
    assert not torch.equal(picture("inpainted", batch), photo)
    assert torch.equal(picture("inpainted", {**batch, "background": batch["source_image"]}), photo)


def test_validation_measures_and_shows(config, generator):
    task, batch = HTBSRTask(config, generator), pair_batch(generator)
    with torch.no_grad():
        assert all(torch.isfinite(torch.as_tensor(v)) for v in task.validation_step(batch).values())
        assert task.pictures(batch)["source_target_output"].shape[1:] == (2 * SMALLEST, 3)


def test_clips_without_torso_are_refused(config):
    with pytest.raises(ValueError, match="torso"):
        replace(config, data=replace(config.data, torso=False))


def test_every_declared_input_is_given_and_every_loss_has_its_inputs(config, generator):
    task = HTBSRTask(replace(config, data=replace(config.data, fields=tuple(FIELDS))), generator)
    frames = task.frames(pair_batch(generator))
    inputs = task.inputs(task.reenacted(frames, frames.target), frames.target)
    assert inputs.keys() == {*INPUTS, *FIELDS}
    check_inputs(INPUTS, inputs, B=2, S=SIZE, R=RAW)
    assert {name for term in TERMS.values() for name in term.inputs} <= inputs.keys()


def test_every_weight_is_the_factor_of_its_term(config, generator):
    def make(weights):
        return HTBSRTask(replace(config, loss=weights, start_adversarial=0), torch.Generator().manual_seed(0))

    weights = PLAIN | {"l1": 0.1, "torso_cover": 0.1, "torso_image": 0.1, "adversarial": 0.1}
    check_factors(make, weights, pair_batch(generator), step=4)


def test_an_error_far_from_the_torso_counts_a_half(config, generator):
    """The target is black; once all of it is torso, once nothing."""
    batch = pair_batch(generator) | {"target_image": torch.zeros(2, 3, SIZE, SIZE, dtype=torch.uint8)}
    task = HTBSRTask(replace(config, targets="raw"), torch.Generator().manual_seed(1))
    inside, outside = (
        generator_terms(task, batch | {"target_classes": torch.full((2, SIZE, SIZE), part).byte()}, 1)
        for part in (4, 0)
    )
    assert float(outside["image"] / inside["image"]) == pytest.approx(0.5, rel=0.1)  # the limit on large errors


def test_the_metric_of_the_best_checkpoint_gets_better_when_the_losses_fall(config, generator):
    fast = replace(config, learning_rates=replace(RATES, generator=3e-3))
    assert gain_of_best_metric(HTBSRTask(fast, generator), pair_batch(generator)) > 0.1


def test_the_best_checkpoint_is_that_of_the_perceptual_loss_and_never_of_psnr_beside_an_adversary(
    config, generator, monkeypatch
):
    configs = config, replace(config, loss=PLAIN | {"adversarial": 0.001})
    check_best_metric(HTBSRTask, configs, pair_batch(generator), ("psnr", "perceptual"), monkeypatch)


def test_frames_are_the_person_over_the_background_of_the_clip_unless_the_config_says_raw(config, generator):
    batch = pair_batch(generator)
    composed, raw = (
        HTBSRTask(replace(config, targets=kind), generator).frames(batch).target.image for kind in ("composed", "raw")
    )
    outside = (batch["target_classes"] == 0)[:, None].expand(-1, 3, -1, -1)
    assert HTBSRTaskConfig(model=config.model, data=config.data, loss=PLAIN).targets == "composed"
    assert torch.equal(raw, to_float(batch["target_image"]))
    assert torch.equal(composed[outside], to_float(batch["background"])[outside])
