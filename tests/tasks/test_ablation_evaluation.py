"""Ablations of a tiny model of pictures and of a tiny A2M, trained for two steps and measured on two short clips."""

import json
from pathlib import Path

import pytest

from modules.system.config import save_yaml, to_dict
from tasks.ablate import main
from tasks.ablation_evaluation import TABLE_COLUMNS, AblationEvaluation, kind_of, why_not
from tasks.evaluation.measures import MEASURES
from tests.tasks.small_evaluation import SETTINGS, WITHOUT
from tests.tasks.tiny_images import tiny_model, write_tiny_clips
from tests.tasks.tiny_speech import A2M

SHARED = {
    "steps": 2,
    "ema": 0,
    "precision": "32-true",
    "loader": {"batch": 2, "workers": 0},
    "log": {"every": 1, "pictures_every": 0, "videos_every": 0, "validate_every": 2, "tensorboard": False},
}


@pytest.fixture(scope="module")
def ablations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of three ablations: of stage 3 that can be measured, of stage 3 that cannot, and of speech."""
    folder = tmp_path_factory.mktemp("set") / "ablations"
    folder.mkdir()
    write_tiny_clips(folder.parent / "data")
    pictures = {
        **SHARED,
        "task": "htbsr",
        "model": to_dict(tiny_model(3)),
        "data": {"folder": str(folder.parent / "data"), "torso": True, "split": {"validation": 0.4}},
        "loss": {"image": 1.0},
    }
    speech = {
        **SHARED,
        "task": "a2m",
        "model": to_dict(A2M),
        "features": "mel",
        "face_model": "procedural",
        "data": {"folder": "", "seconds": 1.28, "utterances": 8, "max_clips": 4},
        "loss": {"expression": 1.0},
    }
    save_yaml(folder.parent / "stage3.yaml", pictures)
    save_yaml(folder.parent / "speech.yaml", speech)
    (folder / "edges.yaml").write_text("base: ../stage3.yaml\nloss: {lips: 1.0}\n")
    (folder / "learned.yaml").write_text(
        "base: ../stage3.yaml\nmodel: {htbsr: {torso: {keypoint_source: learned, detector_channels: [4, 8]}}}\n"
    )
    (folder / "landmarks.yaml").write_text("base: ../speech.yaml\nloss: {landmarks: 1.0}\n")
    return folder


def run(ablations: Path, *more: str, evaluate: tuple[str, ...] = ()) -> int:
    output = str(ablations.parent / "runs")
    return main([str(ablations), "--output", output, "--device", "cpu", *more, "--evaluate", *evaluate])


def table(ablations: Path) -> dict[str, dict]:
    return {row["name"]: row for row in json.loads((ablations.parent / "runs" / "table.json").read_text())}


def test_pictures_have_the_measures_of_the_evaluation(ablations, people, assets, capsys):
    settings = (f"videos={people}", *SETTINGS, *WITHOUT, "size=256")
    assert run(ablations, "--only", "edges", "learned", evaluate=settings) == 0
    rows, text = table(ablations), (ablations.parent / "runs" / "table.md").read_text()
    for name in ("stage3", "edges"):
        assert {"psnr_head", "ssim_head"} <= set(rows[name]["evaluated"]) <= set(TABLE_COLUMNS["portrait"])
        assert 0 < rows[name]["metrics"]["psnr_head"] < 40 and "psnr" in rows[name]["metrics"]
    change = rows["edges"]["metrics"]["psnr_head"] - rows["stage3"]["metrics"]["psnr_head"]
    assert rows["edges"]["difference"]["psnr_head"] == pytest.approx(change) and change != 0
    assert "evaluated" not in rows["learned"] and rows["learned"]["metrics"]
    assert "| run, evaluated | psnr_head | ssim_head |" in text
    assert "learned is not evaluated: its key points" in text and "csim_dlib is missing" in text
    assert f"same_identity, 2 clips of {people}" in text
    assert "- edges: no face was found in any of 14 frames; left out for that:" in text  # noise draws no face
    report = json.loads((ablations.parent / "runs/evaluation/same_identity/table.json").read_text())
    assert report["edges"]["psnr_head"]["mean"] == rows["edges"]["metrics"]["psnr_head"]

    capsys.readouterr()
    assert run(ablations, "--only", "edges", evaluate=settings) == 0
    said = capsys.readouterr().out
    assert "anna: finished before" in said and " methods" not in said.replace("to tell methods apart", "")
    assert table(ablations)["edges"] == rows["edges"]


def test_speech_has_its_own_measures_with_their_spread_over_seeds(ablations, people, assets):
    settings = (f"videos={people}", *SETTINGS, *WITHOUT, "protocol=cross_identity", "syncnet=nowhere")
    assert run(ablations, "--only", "landmarks", "--seeds", "2", evaluate=settings) == 0
    row = table(ablations)["landmarks"]
    assert {"lip_correlation", "lip_range", "aed_fit"} <= set(row["evaluated"]) <= set(TABLE_COLUMNS["audio2motion"])
    assert row["spread"]["lip_range"] > 0 and len(row["seeds"]) == 2
    assert "syncnet_own is missing" in (ablations.parent / "runs" / "table.md").read_text()


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ((), "--evaluate needs videos=FOLDER"),
        (("videos=nowhere",), "there is no folder nowhere"),
        (("videos={people}", "sise=3"), "did you mean size"),
        (("videos={people}", "output=there"), "tasks.ablate sets"),
        (("videos={people}", "protocol=audio_driven"), "is driven by sound"),
        (("videos={people}", "without=[csim_dlip]"), "did you mean csim_dlib"),
    ],
)
def test_mistakes_are_found_before_anything_is_trained(ablations, people, tmp_path, settings, words, capsys):
    given = [text.format(people=people) for text in settings]
    arguments = [str(ablations), "--output", str(tmp_path / "runs"), "--only", "edges", "--evaluate", *given]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert words in said and said.count("\n") == 1
    assert not (tmp_path / "runs").exists()


def test_the_demo_makes_its_clips(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr("tasks.ablation_evaluation.write_procedural_clips", lambda folder, *sizes: made.append(folder))
    evaluation = AblationEvaluation(tmp_path, (), own_clips=True)
    config = evaluation.config("portrait")
    assert config.videos == tmp_path / "clips" and config.size == 256 and config.output == tmp_path / "same_identity"
    with pytest.raises(Exception, match="there is no folder"):
        evaluation.prepare([tiny_model(3), A2M])
    assert made == [tmp_path / "clips"]


def test_what_inference_cannot_use_is_told_apart():
    assert kind_of(tiny_model(1)) == "portrait" and kind_of(A2M) == "audio2motion" and kind_of(None) is None
    assert not why_not(tiny_model(3)) and not why_not(tiny_model(1)) and not why_not(A2M)


def test_every_column_is_a_measure_of_the_evaluation():
    assert {name for names in TABLE_COLUMNS.values() for name in names} <= {measure.name for measure in MEASURES}


def test_a_stage_of_the_raw_render_is_measured_by_it(ablations, people, assets):
    folder = ablations.parent / "raw"
    folder.mkdir(exist_ok=True)
    config = {
        **SHARED,
        "task": "motion_adapter_patches",
        "model": to_dict(tiny_model(2)),
        "data": {"folder": str(ablations.parent / "data"), "split": {"validation": 0.4}},
        "initial_weights": "none",
        "loss": {"image_raw": 1.0},
    }
    save_yaml(ablations.parent / "stage2.yaml", config)
    (folder / "masks.yaml").write_text("base: ../stage2.yaml\nloss: {mask: 1.0}\n")
    assert run(folder, evaluate=(f"videos={people}", *SETTINGS, *WITHOUT, "size=256")) == 0
    text = (folder.parent / "runs" / "table.md").read_text()
    assert "- masks was trained on its raw render alone: that is measured, upscaled" in text
