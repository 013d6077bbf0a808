"""docs/extending.md: its examples do what it says. A block of code belongs to the file named in the line before."""

import re
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from modules.system.errors import UserError
from tasks.engine import registry
from tasks.run import main
from tests.conftest import ROOT
from tests.tasks.helpers import metrics

PAGE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


def block(section: str, file: str) -> str:
    """The code of `file` in a section of the page."""
    part = PAGE.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    found = re.findall(rf"^(?:.*)`{re.escape(file)}`:\n\n```\w+\n(.*?)^```", part, flags=re.DOTALL | re.MULTILINE)
    assert len(found) == 1, f"{len(found)} blocks of {file} under {section}"
    return found[0]


def module(code: str, **names: object) -> ModuleType:
    """Code as a module, with names that its file has already."""
    made = ModuleType("example")
    vars(made).update(names)
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
    "section, source, test",
    [
        ("A metric", "modules/metrics/image.py", "tests/modules/metrics/test_image.py"),
        ("A loss", "modules/losses/image.py", "tests/modules/losses/test_image.py"),
    ],
)
def test_the_function_passes_its_own_test(section: str, source: str, test: str, generator: torch.Generator) -> None:
    functions = vars(module(block(section, source), Tensor=Tensor))
    written = module(block(section, test), torch=torch, assert_close=assert_close, **functions)
    tests = [value for name, value in vars(written).items() if name.startswith("test_")]
    assert len(tests) == 1
    tests[0](generator) if tests[0].__code__.co_argcount else tests[0]()


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
