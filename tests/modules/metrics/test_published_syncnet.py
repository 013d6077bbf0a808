import numpy as np
import pytest
import torch

from modules.metrics.published_syncnet import LIP_WINDOW, PublishedSyncNet, face_crops, lip_sync_error, mfcc
from tests.metric_clips import series_of


class Loudness(torch.nn.Module):
    """In place of the network: both vectors are how bright the face and how loud the sound is (about 190)."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))
        self.pictures: list[torch.Tensor] = []

    def embed_lips(self, faces: torch.Tensor) -> torch.Tensor:
        self.pictures.append(faces)
        return torch.stack([faces.mean(dim=(1, 2, 3, 4)) - 190, torch.zeros(len(faces))], dim=1)

    def embed_audio(self, cepstra: torch.Tensor) -> torch.Tensor:
        return torch.stack([10 * cepstra[:, 0, 0].mean(dim=-1) - 190, torch.zeros(len(cepstra))], dim=1)


def test_the_network_has_the_shapes_of_the_published_table():
    network = PublishedSyncNet().eval()
    with torch.inference_mode():
        speech = network.embed_audio(torch.zeros(2, 1, 13, 20))
        lips = network.embed_lips(torch.zeros(1, 3, LIP_WINDOW, 224, 224))
    assert speech.shape == (2, 1024) and lips.shape == (1, 1024)
    names = network.state_dict()
    assert names["netcnnlip.0.weight"].shape == (96, 3, 5, 7, 7) and names["netcnnaud.0.weight"].shape == (64, 1, 3, 3)
    assert names["netcnnlip.18.weight"].shape == (512, 256, 1, 6, 6) and names["netfclip.3.bias"].shape == (1024,)
    assert names["netcnnaud.18.weight"].shape == (512, 256, 5, 4) and names["netfcaud.0.weight"].shape == (512, 512)


def test_mfcc_has_a_column_every_10_ms_and_the_log_energy_first():
    noise = 0.1 * np.random.default_rng(0).normal(size=16000)
    cepstra, quieter = mfcc(noise), mfcc(noise / 2)
    assert cepstra.shape == (99, 13)
    np.testing.assert_allclose(cepstra[:98, 0] - quieter[:98, 0], np.log(4), atol=1e-2)
    np.testing.assert_allclose(cepstra[:98, 1:], quieter[:98, 1:], atol=0.1)  # the shape of a spectrum has no level
    assert mfcc(np.zeros(300)).shape == (1, 13) and np.isfinite(mfcc(np.zeros(300))).all()
    assert mfcc(np.zeros(401)).shape == (2, 13)


def test_mfcc_of_a_click_by_hand():
    sound = np.zeros(400)
    sound[100] = 1.0
    emphasised = np.zeros(400)
    emphasised[100], emphasised[101] = 32767, -0.97 * 32767
    power = np.abs(np.fft.rfft(emphasised, 512)) ** 2 / 512
    assert mfcc(sound)[0, 0] == pytest.approx(np.log(power.sum()))


def test_a_crop_holds_the_face_and_turns_red_into_the_last_channel():
    series = series_of(frames=3, size=256)
    frames = torch.zeros(3, 256, 256, 3, dtype=torch.uint8)
    for frame, points in zip(frames, series.landmarks):
        low, high = points.amin(0).round().int().tolist(), points.amax(0).round().int().tolist()
        frame[low[1] : high[1], low[0] : high[0], 0] = 200  # a red box where the face is
    crops = face_crops(frames, series.landmarks)
    assert crops.shape == (3, 224, 224, 3)
    red = crops[1, :, :, 2] > 100
    rows, columns = red.any(1).nonzero().flatten(), red.any(0).nonzero().flatten()
    assert rows[0] <= 2  # the box begins at the top of the face
    assert rows[-1] == pytest.approx(224 * 2 / 2.8, abs=4)  # 2 of 2.8 half sides high
    assert columns[0] + columns[-1] == pytest.approx(223, abs=5)  # in the middle
    assert crops[..., :2].max() in (0, 110)  # nothing else, but the grey beyond the picture


def test_a_frame_without_a_face_takes_its_neighbours_box_and_a_clip_without_one_is_refused():
    series = series_of(frames=3, size=128)
    points = series.landmarks[:1].repeat(3, 1, 1)
    frames = torch.randint(0, 255, (1, 128, 128, 3), dtype=torch.uint8, generator=torch.Generator()).repeat(3, 1, 1, 1)
    points[1] = torch.nan
    crops = face_crops(frames, points)
    assert torch.equal(crops[0], crops[1])
    with pytest.raises(ValueError, match="no frame has a face"):
        face_crops(frames, torch.full_like(points, torch.nan))


@pytest.mark.parametrize("late", [0, 3])
def test_the_offset_of_a_flashing_face_and_its_beeps_is_found(late: int, generator: torch.Generator):
    """Brightness follows the log energy that a frame's sound has, whose order and rate must be kept for that."""
    frames, step = 60, 640
    level = 1 + 3 * torch.rand(frames, generator=generator)
    waveform = torch.randn(frames * step, generator=generator) * 0.01 * level.repeat_interleave(step)
    energy = torch.from_numpy(mfcc(waveform.numpy()))[:, 0]
    seen = 10 * torch.stack([energy[4 * t : 4 * t + 4].mean() for t in range(frames - 1)] + [energy[-4:].mean()])
    pictures = seen.roll(-late)[:, None, None, None].expand(-1, 64, 64, 3).round().to(torch.uint8)
    points = series_of(frames=1, size=64).landmarks.expand(frames, -1, -1)
    points = 20 + 24 * (points - points.amin()) / (points.amax() - points.amin())  # a box within the picture
    network = Loudness()
    score = lip_sync_error(network, pictures, points, waveform)
    assert score.offset == -late and score.distance < 1 < 3 < score.confidence
    assert network.pictures[0].shape == (16, 3, 5, 224, 224) and sum(map(len, network.pictures)) == 55


def test_random_weights_give_an_order_but_no_meaning():
    network = PublishedSyncNet().eval()
    series = series_of(frames=8, size=64)
    frames = torch.randint(0, 255, (8, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator())
    score = lip_sync_error(network, frames, series.landmarks, torch.zeros(8 * 640))
    assert score.distance >= 0 and score.confidence >= 0 and -15 <= score.offset <= 15
    with pytest.raises(ValueError, match="5 frames with sound"):
        lip_sync_error(network, frames, series.landmarks, torch.zeros(5 * 640))
