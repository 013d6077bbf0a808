"""docs/extending.md: its examples do what it says. A block of code belongs to the file named in the line before."""

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch.testing import assert_close

import data_gen.run
import modules.clips.fields
import modules.losses.image
import modules.metrics.image
import modules.portrait.build
from inference.motion import Motion
from inference.pipeline import TalkingPortrait
from modules.clips.fields import FIELDS
from modules.portrait.build import build_portrait
from modules.procedural.head import procedural_model
from modules.system.config import save_yaml, to_dict
from modules.system.errors import UserError
from tasks.demo.patches import PATCH_INPUTS
from tasks.engine import registry
from tasks.engine.registry import find_task
from tasks.run import main
from tasks.stages import htbsr
from tasks.stages.terms import Input
from tests.conftest import ROOT
from tests.tasks.helpers import metrics
from tests.tasks.tiny_images import tiny_model, write_tiny_clips

BUILD = (ROOT / "modules" / "portrait" / "build.py").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def block(section: str, file: str) -> str:
    """The code of `file` in a section of the page."""
    part = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"^(?:.*)`{re.escape(file)}`:\n\n```\w+\n(.*?)^```", part, flags=re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"{len(found)} blocks of {file} under {section}"
    return found[0]


def module(code: str, file: ModuleType | None = None, **names: object) -> ModuleType:
    """Code as a module of its own; or below what stands in a file that is there, and with names that it then has."""
    made = ModuleType("example")
    vars(made).update(vars(file) if file else {}, **names)
    exec(compile(code, "docs/extending.md", "exec"), vars(made))  # noqa: S102
    return made


def test_the_stage_trains_resumes_and_refuses_a_bad_value(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    for name in ("yaw.py", "yaw.yaml"):
        (tmp_path / "mine" / name).write_text(block("A stage", f"mine/{name}"), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(registry, "TASKS", dict(registry.TASKS))  # so that no other test finds the stage
    command = ["mine/yaw.yaml", "--output", "run", "--device", "cpu"]
    assert main([*command, "heads=0"]) == 2
    assert "heads is 0; it must be at least 1" in capsys.readouterr().err
    for steps in ("steps=100", "steps=300"):  # the second resumes the first
        assert main([*command, steps]) == 0
    degrees = metrics(tmp_path / "run", "validation/degrees")
    assert len(degrees) == 3  # after 100, 200 and 300 steps
    assert degrees[2] < degrees[0] and degrees[2] < 3  # yaw is within 34 degrees


@pytest.mark.parametrize(
    "section, source, file, function",
    [
        ("A metric", modules.metrics.image, "metrics/test_image.py", "colour_shift"),
        ("A loss", modules.losses.image, "losses/test_image.py", "mouth_edges"),
    ],
)
def test_the_function_passes_its_own_test_as_printed(
    section: str,
    source: ModuleType,
    file: str,
    function: str,
    generator: torch.Generator,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    added = module(block(section, f"{source.__name__.replace('.', '/')}.py"), source)
    monkeypatch.setattr(source, function, vars(added)[function], raising=False)
    written = module(block(section, f"tests/modules/{file}"))  # with no names but those that it imports
    tests = [value for name, value in vars(written).items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0](generator) if tests[0].__code__.co_argcount else tests[0]()


def input_table() -> str:
    """What the losses of every stage may read, as the page shows it."""
    stages: dict[tuple[str, Input], list[str]] = {}
    tables = {name: find_task(name).term_inputs for name in ("i2p", "motion_adapter", "htbsr")}
    for stage, table in (tables | {"patches": PATCH_INPUTS}).items():
        for name, declared in table.items():
            stages.setdefault((name, declared), []).append(stage)
    rows = ["| input | of | shape, values | meaning |", "| --- | --- | --- | --- |"]
    names = list(dict.fromkeys(name for name, _ in stages))
    for (name, declared), of in sorted(stages.items(), key=lambda item: names.index(item[0][0])):
        values = " ".join(filter(None, (declared.shape, declared.values))) or "-"
        meaning = declared.meaning.replace("|", "\\|")
        rows.append(f"| `{name}` | {', '.join(of)} | {values} | {meaning} |")
    return "\n".join(rows)


def test_the_page_has_the_inputs_that_the_losses_of_every_stage_may_read() -> None:
    assert input_table() in PAGE, f"docs/extending.md needs this table:\n{input_table()}"


def test_the_loss_of_a_region_trains_a_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    losses = module(block("A loss", "modules/losses/image.py"), modules.losses.image)
    terms = module(lines(block("A loss", "tasks/stages/htbsr.py"), "TERMS"), htbsr, losses=losses).TERMS
    for name, line in terms.items():
        monkeypatch.setitem(htbsr.TERMS, name, line)
    write_tiny_clips(tmp_path / "clips")
    assert main(tiny_run(tmp_path, mouth=0.5)) == 0
    assert metrics(tmp_path / "run", "unweighted/mouth")[0] > 0


def tiny_run(folder: Path, **loss: float) -> list[str]:
    """Arguments of a run of one step of the third stage on the clips in folder/clips, its output folder/run."""
    config = {
        "task": "htbsr",
        "steps": 1,
        "model": to_dict(tiny_model(3)),
        "data": {"folder": str(folder / "clips"), "torso": True, "split": {"validation": 0.4}},
        "loss": {"image": 1.0, **loss},
        "loader": {"batch": 2, "workers": 0},
        "log": {"every": 1, "pictures_every": 0, "videos_every": 0, "validate_every": 0, "tensorboard": False},
    }
    save_yaml(folder / "htbsr.yaml", config)
    return [str(folder / "htbsr.yaml"), "--output", str(folder / "run"), "--device", "cpu"]


def lines(code: str, table: str) -> str:
    """Code whose table has nothing but the lines that are added."""
    assert f"{table} = {{\n    ...\n" in code
    return code.replace("    ...\n", "")


def test_a_loss_reads_the_field_of_the_clips(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], generator: torch.Generator
) -> None:
    section = "A field of clips"
    added = module(lines(block(section, "modules/clips/fields.py"), "FIELDS"), modules.clips.fields).FIELDS
    losses = module(block(section, "modules/losses/image.py"), modules.losses.image)
    terms = module(lines(block(section, "tasks/stages/htbsr.py"), "TERMS"), htbsr, losses=losses).TERMS
    assert not added.keys() & FIELDS.keys() and not terms.keys() & htbsr.TERMS.keys()
    for table, more in ((FIELDS, added), (htbsr.TERMS, terms)):
        for name, line in more.items():
            monkeypatch.setitem(table, name, line)
    image = 2 * torch.rand(2, 3, 64, 64, generator=generator) - 1
    assert float(losses.contrast_l1(image, torch.full((2, 1), 12**-0.5))) < 0.01  # as even noise has
    write_tiny_clips(tmp_path / "clips")
    (tmp_path / "clips.yaml").write_text(f"source: videos\nfolder: {tmp_path / 'clips'}\n", encoding="utf-8")
    assert data_gen.run.main([str(tmp_path / "clips.yaml"), "--add", "contrast"]) == 0
    command = tiny_run(tmp_path, contrast=0.1)
    assert main(command) == 2 and "add data.fields=[contrast]" in capsys.readouterr().err
    assert main([*command, "data.fields=[contrast]"]) == 0
    assert metrics(tmp_path / "run", "loss/contrast")[0] > 0


def test_another_super_resolution_fits_into_the_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    section = "Another super-resolution"
    decoder = module(block(section, "modules/portrait/shuffle.py")).ShuffleDecoder
    line = re.search(r"^decoder = .*", PAGE, flags=re.MULTILINE)[0]
    held, shown = (re.search(r"^ *decoder = (.*)", text, flags=re.MULTILINE)[1] for text in (BUILD, line))
    assert shown == held.replace("HeadDecoder", "ShuffleDecoder")  # the page has the line of the file
    monkeypatch.setattr(modules.portrait.build, "HeadDecoder", decoder)
    talker = TalkingPortrait(
        build_portrait(tiny_model(2)), tiny_model(2), procedural_model(), None, torch.device("cpu")
    )
    still = Motion(torch.zeros(1, 64), *(torch.zeros(1, width) for width in (3, 3, 1)), "procedural")
    (frame,) = talker.frames(talker.procedural_portrait(900_007), still)
    assert frame.shape == (talker.size, talker.size, 3) and frame.std() > 0
    with torch.no_grad():
        talker.model.decoder.detail.bias += 0.5  # the module itself draws
    (brighter,) = talker.frames(talker.procedural_portrait(900_007), still)
    assert brighter.mean() > frame.mean() + 30


def test_the_face_model_reads_its_file(tmp_path: Path, generator: torch.Generator) -> None:
    load = module(block("A face model", "modules/face3d/my_head.py")).load_my_head
    numbers = np.random.default_rng(0)
    vertices = numbers.uniform(-10, 10, (500, 3))
    triangles = numbers.integers(500, size=(900, 3))
    arrays = {
        "vertices": vertices,
        "identity": numbers.normal(size=(100, 500, 3)),
        "triangles": triangles,
        "expression": numbers.normal(size=(10, 500, 3)),
        "skin_triangles": triangles[:600],
        "landmarks_68": np.arange(68),
        "landmarks_478": np.arange(478),
    }
    np.savez(tmp_path / "my_head.npz", **arrays)
    face = load(tmp_path / "my_head.npz")
    assert face.name == "my_head"
    expression = torch.zeros(1, 64)
    expression[0, 3] = 2.0
    moved = face.landmarks(torch.zeros(1, 80), expression, 68)[0]
    centred = vertices - vertices.mean(axis=0)
    wanted = (centred + 2 * arrays["expression"][3])[:68] / 10
    assert_close(moved, torch.from_numpy(wanted).float(), atol=1e-5, rtol=0)
    del arrays["skin_triangles"]
    np.savez(tmp_path / "damaged.npz", **arrays)
    with pytest.raises(UserError, match="skin_triangles"):
        load(tmp_path / "damaged.npz")
