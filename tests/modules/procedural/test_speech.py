import time

import numpy as np
import pytest
import torch

from modules.procedural.head import EXPRESSIONS
from modules.procedural.speech import INVENTORY, PAUSE, VOWELS, Utterance, rerecord, synthesize


def mode(utterance: Utterance, name: str) -> torch.Tensor:
    return utterance.expression[:, EXPRESSIONS.index(name)]


@pytest.fixture(scope="module")
def utterances() -> list[Utterance]:
    return [synthesize(seed, 4.0) for seed in range(12)]


def frames_of(utterance: Utterance, names: set[str], least: float = 0.0) -> list[int]:
    """The frame in the middle of each phoneme of `names` that lasts `least` seconds."""
    middles = [(p.start + p.end) / 2 for p in utterance.phonemes if p.name in names and p.end - p.start > least]
    return [int(t * 25) for t in middles if t * 25 < len(utterance.expression)]


def test_lengths_and_ranges(utterances):
    for u in utterances:
        assert u.audio.shape == (64000,) and u.expression.shape == (100, 64) and u.f0.shape == (200,)
        assert u.audio.abs().max() <= 1 and u.audio.dtype == torch.float32
        assert u.expression.min() >= 0 and u.expression.max() <= 1


def test_a_seed_means_the_same_utterance(utterances):
    again = synthesize(3, 4.0)
    assert torch.equal(again.audio, utterances[3].audio) and torch.equal(again.expression, utterances[3].expression)
    assert not torch.equal(again.audio, utterances[4].audio)


def test_phonemes_follow_each_other_without_gaps(utterances):
    for u in utterances:
        assert u.phonemes[0].start == 0 and u.phonemes[-1].end >= 4.0
        for before, after in zip(u.phonemes, u.phonemes[1:]):
            assert before.end == pytest.approx(after.start) and after.end > after.start


def test_the_mouth_is_closed_in_pauses_and_open_in_open_vowels(utterances):
    pauses, vowels = [], []
    for u in utterances:
        pauses += [mode(u, "jaw_open")[i] for i in frames_of(u, {PAUSE}, 0.25)]
        vowels += [mode(u, "jaw_open")[i] for i in frames_of(u, {"a", "ae", "O"})]
    assert max(pauses) < 0.05 < 0.15 < np.mean(vowels)


def test_lips_meet_for_m_b_p_and_are_round_for_u(utterances):
    press = [mode(u, "lips_press")[i] for u in utterances for i in frames_of(u, {"m", "b", "p"})]
    others = [mode(u, "lips_press")[i] for u in utterances for i in frames_of(u, {"a", "e", "s", "k"})]
    assert np.mean(press) > 0.5 > 0.15 > np.mean(others)
    round_, spread = ([mode(u, "pucker")[i] for u in utterances for i in frames_of(u, {name})] for name in "ui")
    assert np.mean(round_) > np.mean(spread) + 0.2


def test_the_mouth_moves_smoothly(utterances):
    for u in utterances:
        assert u.expression.diff(dim=0).abs().max() < 0.65


def test_the_sound_is_loud_when_the_mouth_is_open(utterances):
    correlations = []
    for u in utterances:
        level = u.audio.view(100, 640).square().mean(1).sqrt().numpy()
        correlations.append(np.corrcoef(level, mode(u, "jaw_open").numpy())[0, 1])
    assert np.mean(correlations) > 0.6


def test_pitch_is_given_in_vowels_and_not_in_pauses(utterances):
    for u in utterances:
        for name, voiced in ((PAUSE, False), *((v, True) for v in VOWELS)):
            for frame in frames_of(u, {name}, 0.1):
                assert (u.f0[2 * frame] > 0) == voiced
        assert 50 < u.f0[u.f0 > 0].min() and u.f0.max() < 600


def test_synthesis_is_much_faster_than_speech():
    start = time.process_time()
    synthesize(99, 10.0)
    assert 10.0 / (time.process_time() - start) > 20


def test_every_sound_of_the_inventory_occurs(utterances):
    assert {p.name for u in [*utterances, *(synthesize(s, 8.0) for s in range(100, 110))] for p in u.phonemes} == set(
        INVENTORY
    )


def test_rerecording_keeps_length_and_depends_on_its_seed(utterances):
    audio = utterances[0].audio
    assert rerecord(audio, 1).shape == audio.shape
    assert torch.equal(rerecord(audio, 1), rerecord(audio, 1))
    assert not torch.equal(rerecord(audio, 1), rerecord(audio, 2))


def test_too_short_an_utterance_is_refused():
    with pytest.raises(ValueError, match=r"0\.01"):
        synthesize(0, 0.01)
