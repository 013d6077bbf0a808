from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from data_gen.clip_facts import ClipFacts
from data_gen.inspection_page import SHEET_SIDE, TINTS, distributions, histogram, overlay, table, worst_first
from data_gen.procedural import ProceduralDataConfig, prepare
from modules.clips.format import Clip, list_clips

FACTS = ClipFacts(
    folder=Path("clips/a_000000"),
    person="a",
    source="",
    licence="",
    face_model="procedural",
    length=50,
    angles=np.zeros((2, 3)),
    expression=np.ones(2),
    face=np.full(2, 0.4),
    error=0.01,
    loudness=float("nan"),
    sound_late=float("nan"),
)


def test_the_worst_fits_come_first_and_unknown_ones_last():
    errors = [0.01, float("nan"), 0.04, 0.02]
    ordered = worst_first([replace(FACTS, error=error) for error in errors])
    assert [clip.error for clip in ordered][:3] == [0.04, 0.02, 0.01] and np.isnan(ordered[3].error)


def test_what_is_not_known_is_in_no_distribution():
    values = dict(distributions([FACTS, replace(FACTS, loudness=-20.0, error=float("nan"))]))
    assert list(values["loudness of a clip, dB of full scale"]) == [-20.0]
    assert list(values["fit error, in eye distances"]) == [0.01] and len(values["yaw, degrees"]) == 4


def test_a_histogram_draws_every_value_and_names_the_middle():
    drawing = histogram("a < b", np.arange(101.0))
    assert "a &lt; b: median 50, 90 % from 5 to 95" in drawing and drawing.count("<rect") == 24
    assert sum(int(part.split("<")[0]) for part in drawing.split(": ")[2:]) == 101
    assert histogram("none", np.zeros(0)) == "<p>none: nothing to show.</p>"


def test_a_table_shows_text_as_text():
    assert table(("a",), [("<i>",)]) == "<table><tr><th>a</th></tr><tr><td>&lt;i&gt;</td></tr></table>"


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Clip:
    folder = tmp_path_factory.mktemp("clips")
    list(prepare(ProceduralDataConfig(folder=str(folder), people=1, frames=2, size=SHEET_SIDE, pncc_size=0, workers=1)))
    return Clip(list_clips(folder)[0])


def test_landmarks_and_classes_lie_over_the_picture(clip):
    shown, picture, classes = overlay(clip, 1), clip.frames([1])[0], clip.classes([1])[0]
    columns, rows = (clip.landmarks[1] * SHEET_SIDE).astype(int).T
    assert (shown[rows, columns] == 255).all()
    dots = np.zeros(classes.shape, bool)
    dots[rows, columns] = True
    free = ~dots & (classes == 0)
    assert np.array_equal(shown[free], picture[free])
    hair = ~dots & (classes == 1)
    expected = 0.65 * picture[hair].astype(float) + 0.35 * TINTS[1]
    assert hair.any() and np.abs(shown[hair] - expected).max() <= 1
