import time

import numpy as np
import pytest
import torch

from modules.procedural.head import EXPRESSIONS
from modules.procedural.mouth import PAUSE, mouth_track
from modules.procedural.speech import INVENTORY, VOWELS, Utterance, rerecord, synthesize


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


def test_the_mouth_belongs_to_the_phonemes(utterances):
    for u in utterances:
        names, ends = zip(*((p.name, p.end) for p in u.phonemes))
        track = mouth_track(names, np.array(ends), 100)
        for name in ("pucker", "lips_press"):
            torch.testing.assert_close(mode(u, name)[:-3], track[:-3, EXPRESSIONS.index(name)], rtol=0, atol=1e-5)
        opened = mode(u, "jaw_open") / track[:, EXPRESSIONS.index("jaw_open")].clamp(min=0.05)
        assert 0.5 < opened.quantile(0.5) < 1.4  # of this speaker


def test_a_given_openness_is_the_speakers(utterances):
    half, whole = (synthesize(3, 4.0, openness) for openness in (0.5, 1.0))
    torch.testing.assert_close(mode(half, "jaw_open"), mode(whole, "jaw_open") / 2, rtol=0, atol=1e-5)
    assert torch.equal(half.audio, utterances[3].audio)


def test_loudness_has_no_part_in_the_opening(utterances):
    correlations = []
    for u in utterances:
        level = u.audio.view(100, 640).square().mean(1).sqrt().numpy()
        correlations.append(np.corrcoef(level, mode(u, "jaw_open").numpy())[0, 1])
    assert np.mean(correlations) < 0.55  # vowels are louder than consonants and pauses


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
