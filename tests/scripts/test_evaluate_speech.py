import json

import numpy as np
import pytest
import torch

from data_gen import flite
from data_gen.synthetic_speech import Talk
from modules.face_models import load_face_model
from modules.procedural.mouth import mouth_track
from scripts import evaluate_speech
from scripts.evaluate_speech import closures, held_out_talk, main, measure, opening_of, rest_figures, show


@pytest.fixture(autouse=True)
def short_formant_speech(monkeypatch):
    monkeypatch.setattr(flite, "available", lambda: False)
    monkeypatch.setattr(evaluate_speech, "SECONDS", 3.0)


def test_the_targets_of_the_training_meet_on_p_b_m_and_nowhere_else():
    face = load_face_model("procedural")
    talk = Talk(np.zeros(16_000), ("a", "p", "i", "m", "o", "t", "b", "a"), np.arange(1, 9) * 0.125)
    opening = opening_of(face, mouth_track(talk.names, talk.ends, 25))
    result = closures([opening, opening], [talk, talk])
    assert result.kept == 1 and result.false == 0
    late = closures([opening.roll(4), opening.roll(4)], [talk, talk])
    assert late.kept < 0.7 or late.false > 0.05
    assert closures([torch.full((25,), 0.2)], [talk]).kept == 0


def test_a_mouth_at_rest_has_no_range_and_one_that_babbles_has():
    face = load_face_model("procedural")
    track = mouth_track(("a", "p") * 12, np.arange(1, 25) * 0.125, 75)
    spoken = opening_of(face, track)
    still = rest_figures(lambda wave: torch.zeros(75, 64), face, spoken)
    moving = rest_figures(lambda wave: track, face, spoken)
    assert all(rest.range == 0 and rest.opening < 0.1 for rest in still.values())
    assert all(rest.range > 0.9 and rest.opening > 0.3 for rest in moving.values())


def test_held_out_speech_is_a_function_of_its_number():
    first, again, other = held_out_talk(0), held_out_talk(0), held_out_talk(1)
    assert len(first.wave) == 48_000 and np.array_equal(first.wave, again.wave) and first.names == again.names
    assert not np.array_equal(first.wave, other.wave)


def test_all_figures_of_a_listener_are_printed(capsys):
    kept, rests = measure(lambda wave: torch.zeros(75, 64), load_face_model("procedural"), 2)
    assert kept["targets"].kept > 0.9 and kept["targets"].false < 0.03
    show(kept, rests)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 + len(rests) and lines[0].startswith("formant speech (flite is not installed), clean: lips")


def test_the_command_writes_its_figures_and_refuses_what_is_no_checkpoint(tmp_path, capsys):
    assert main(["--pieces", "1", "--json", str(tmp_path / "f.json")]) == 0
    figures = json.loads((tmp_path / "f.json").read_text())
    assert figures["closures"].keys() == {"clean", "recorded anew", "targets"}
    assert 0 <= figures["rest"]["white noise"]["range"] < 1.5
    assert main(["--checkpoint", str(tmp_path)]) == 2 and main(["--pieces", "0"]) == 2
    assert "give at least 1" in capsys.readouterr().err
