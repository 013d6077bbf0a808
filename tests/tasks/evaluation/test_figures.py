import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from modules.face3d.coefficients import FaceCoefficients
from modules.metrics.series import ClipSeries
from tasks.evaluation.figures import PictureFigures, Speech, TrueFrame, series_figures, sync_figures
from tasks.evaluation.networks import Networks

FRAMES, SIZE = 60, 64


def series(generator: torch.Generator) -> ClipSeries:
    """A face whose mouth opens at random."""
    points = 20 + 24 * torch.rand(478, 2, generator=generator).expand(FRAMES, -1, -1).clone()
    points += 0.3 * torch.randn(FRAMES, 478, 2, generator=generator)
    face = FaceCoefficients.neutral(FRAMES)
    return ClipSeries.of(points, SIZE, face.replace(euler=0.1 * torch.randn(FRAMES, 3, generator=generator)))


def networks() -> Networks:
    found = Networks("same_identity", "cpu", Path("nowhere"), "procedural")
    found.loaded = {}
    return found


def test_masked_figures_are_those_of_the_metrics(generator: torch.Generator) -> None:
    from modules.metrics.image import frame_psnr, ssim
    from tasks.evaluation.figures import to_unit

    made, true = (torch.randint(0, 255, (SIZE, SIZE, 3), generator=generator).byte().numpy() for _ in range(2))
    classes = np.zeros((SIZE, SIZE), np.uint8)
    classes[20:34, 25:40] = 3
    pictures = PictureFigures(networks(), made, np.zeros((478, 2)))
    pictures.compare(made, TrueFrame(true, classes))
    found, mask = pictures.figures(), torch.from_numpy(classes == 3)[None, None]
    assert math.isclose(found["psnr_head"], float(frame_psnr(to_unit(made), to_unit(true), mask)), rel_tol=1e-5)
    assert math.isclose(found["ssim_head"], float(ssim(to_unit(made), to_unit(true), mask)), abs_tol=1e-5)
    assert "psnr_torso" not in found  # there is none


def test_lips_that_are_as_late_as_the_sound_correlate(generator: torch.Generator) -> None:
    truth = series(generator)
    late = replace(truth, mouth_opening=torch.roll(truth.mouth_opening, 3))
    speech = Speech(torch.randn(FRAMES * 640, generator=generator), late=3.0)
    assert series_figures(late, truth, speech, by_sound=True)["lip_correlation"] > 0.999
    assert abs(series_figures(late, truth, speech, by_sound=False)["lip_correlation"]) < 0.5


def test_a_video_without_faces_has_that_figure_alone(generator: torch.Generator) -> None:
    truth = series(generator)
    blind = ClipSeries.of(torch.full((FRAMES, 478, 2), torch.nan), SIZE, FaceCoefficients.neutral(FRAMES))
    assert series_figures(blind, truth, None, by_sound=False) == {"one_face": 0.0}


def test_without_its_network_there_is_no_sync_score(generator: torch.Generator) -> None:
    frames = [np.zeros((8, 8, 3), np.uint8)]
    assert sync_figures(networks(), frames, series(generator), Speech(torch.zeros(640))) == {}
