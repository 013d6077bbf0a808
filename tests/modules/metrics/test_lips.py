import math
from dataclasses import replace

import pytest
import torch

from modules.metrics.lips import (
    blink_pose_coupling,
    estimate_sound_offset,
    eye_closure,
    frame_loudness,
    lip_closure,
    loudness_correlation,
    motion_in_silence,
    opening_correlation,
    opening_in_silence,
    shut_eyes,
    silence,
    vowel_loudness,
)
from tests.metric_clips import series_of


@pytest.fixture
def opening(generator: torch.Generator) -> torch.Tensor:
    """[200] a smooth mouth that never repeats."""
    noise = torch.randn(1, 1, 206, generator=generator)
    return torch.nn.functional.avg_pool1d(noise, 7, 1)[0, 0]


def test_a_mouth_made_from_late_sound_is_compared_with_earlier_lips(opening):
    made = torch.cat([opening[:3], opening[:-3]])  # what the sound says comes 3 frames after the lips
    assert opening_correlation(made, opening, 3) == pytest.approx(1, abs=1e-5)
    assert opening_correlation(made, opening) < 0.7
    assert opening_correlation(opening, opening) == pytest.approx(1, abs=1e-5)
    assert opening_correlation(opening[3:], torch.cat([opening[3:], opening[:0]]), -0.0) == pytest.approx(1, abs=1e-5)


def test_a_frame_and_a_half_is_between_two_and_frames_without_a_face_do_not_count(opening):
    line = torch.arange(10.0)
    curve = line.square()
    made = (line - 1.5).square()
    assert opening_correlation(made, curve, 1.5) > 0.9999 > opening_correlation(made, curve, -1.5)
    holes = opening.clone()
    holes[20:40] = torch.nan
    assert opening_correlation(holes, opening) == pytest.approx(1, abs=1e-5)
    assert math.isnan(opening_correlation(torch.full_like(opening, torch.nan), opening))


@pytest.mark.parametrize("late", [-4, 0, 2.5])
def test_the_offset_of_a_clip_is_found_by_a_predictor_that_hears_its_lips(opening, late, generator):
    position = (torch.arange(200) - late).clamp(0, 199)
    below = position.floor().long().clamp(max=198)
    predicted = opening[below] * (below + 1 - position) + opening[below + 1] * (position - below)
    predicted = predicted + 0.2 * torch.randn(200, generator=generator)
    found = estimate_sound_offset(opening, predicted)
    assert found.frames == pytest.approx(late, abs=0.3) and found.margin > 0.3 and found.correlation > 0.7
    rising = estimate_sound_offset(torch.arange(50.0) ** 2, (torch.arange(50.0) - 20) ** 2, reach=4)
    assert rising.margin == 0 and abs(rising.frames) == 4
    nothing = estimate_sound_offset(opening, torch.randn(200, generator=generator))
    assert nothing.margin < 0.2 and nothing.correlation < 0.4


def test_vowels_are_loud_where_the_sound_is_and_silence_is_where_it_is_not():
    time = torch.arange(4 * 16000) / 16000
    tone = 0.3 * torch.sin(2 * math.pi * 500 * time)
    tone[16000:24000] = 0  # frames 25 to 37.5
    tone[48000:50000] = 0  # 3 frames: too short for silence
    loud = vowel_loudness(tone, 100)
    assert loud.shape == (100,) and loud[27:36].max() < loud[:24].min() - 3
    silent = silence(tone, 100)
    assert silent.nonzero().flatten().tolist() == list(range(25, 37))
    assert silence(tone, 120)[101:].all()  # the sound ends early
    hum = 0.3 * torch.sin(2 * math.pi * 4000 * time)
    assert vowel_loudness(hum, 100).mean() < loud[:24].mean() - 2


def test_a_mouth_that_rests_in_silence_has_0_and_one_that_goes_on_has_1(opening):
    silent = torch.zeros(200, dtype=torch.bool)
    silent[50:100] = True
    rests = opening - opening.min()
    rests[49:101] = 0
    assert motion_in_silence(rests, silent) == 0 and opening_in_silence(rests, silent) < 0.05
    assert 0.7 < motion_in_silence(opening, silent) < 1.4 and opening_in_silence(opening, silent) > 0.2
    assert math.isnan(motion_in_silence(opening, torch.zeros(200, dtype=torch.bool)))


def test_lips_that_close_on_p_b_m_only():
    mouth = torch.full((100,), 0.3)
    mouth[10:13], mouth[50:52], mouth[60] = 0.01, 0.01, 0.01
    bilabials = torch.tensor([[9.5, 12.0], [48.0, 49.5], [70.0, 73.0]])
    others = torch.tensor([[13.0, 30.0], [49.5, 62.0]])
    result = lip_closure(mouth, bilabials, others)
    assert result.kept == pytest.approx(2 / 3)  # the second closes one frame late
    assert result.false == pytest.approx(2 / (17 + 11))  # 51 and 60 of 13 to 29 and 51 to 61; 50 is next to a b
    assert math.isnan(lip_closure(mouth, bilabials[:0], others).kept)
    assert math.isnan(lip_closure(mouth, bilabials, others[:0]).false)


def test_frames_that_p_b_m_touch_or_neighbour_are_never_false():
    mouth = torch.full((60,), 0.3)
    mouth[18:24] = 0.0
    result = lip_closure(mouth, torch.tensor([[20.2, 21.8]]), torch.tensor([[0.0, 20.2], [21.8, 60.0]]))
    assert result.kept == 1 and result.false == pytest.approx(2 / (60 - 4))  # 18 and 23; 19 to 22 do not count


def test_a_mouth_that_follows_loudness_is_told_from_one_that_does_not(opening, generator):
    level = 0.1 + 0.2 * (opening - opening.min())
    wave = (level[:, None] * torch.sin(torch.arange(640.0) * 0.3)).flatten()
    assert loudness_correlation(opening, wave) > 0.99
    early = torch.cat([opening[3:], opening[:3]])  # the mouth of a picture whose sound is 3 frames late
    assert loudness_correlation(early, wave, late=3) > 0.99 > 0.7 > loudness_correlation(early, wave)
    assert abs(loudness_correlation(torch.rand(200, generator=generator), wave)) < 0.3
    assert frame_loudness(wave, 210)[200:].max() == 0


def test_a_head_that_jerks_with_the_lids_is_coupled(generator):
    series = series_of(frames=300)
    still = replace(series, euler=torch.zeros(300, 3), translation=torch.zeros(300, 3))
    assert blink_pose_coupling(still) == 0
    assert blink_pose_coupling(series) < 0.3
    euler = 0.001 * torch.randn(300, 3, generator=generator).cumsum(0)
    euler[:, 0] += 0.3 * series.eye_opening.mean(dim=1)
    assert blink_pose_coupling(replace(series, euler=euler)) > 0.9


def test_eyes_that_stay_half_open_at_a_blink():
    eyes = torch.full((100, 2), 0.12)
    eyes[30:34] = 0.0
    shut = shut_eyes(eyes)
    assert shut.nonzero().flatten().tolist() == [30, 31, 32, 33]
    assert eye_closure(eyes, shut) == 0
    half = torch.full((100, 2), 0.12)
    half[31:33, 0], half[31:33, 1] = 0.06, 0.03
    assert eye_closure(half, shut) == pytest.approx(0.375)
    assert eye_closure(torch.full((100, 2), 0.1), shut) == pytest.approx(1)
    assert math.isnan(eye_closure(eyes, torch.zeros(100, dtype=torch.bool)))
