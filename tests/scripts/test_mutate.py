"""Mutations of the real tree, and whole runs in a project of two files."""

import ast
import re
from argparse import Namespace
from itertools import islice
from pathlib import Path

import pytest
import yaml

from modules.system.errors import UserError
from scripts.mutate import CANDIDATES, candidate_files, groups_of_tests, import_graph, main, mutate, seen_by
from scripts.mutations import draw, python_sites, sites
from tests.conftest import ROOT

LOSS = '''"""Docstring of 7 < 8."""

RATE: dict[str, 3] = {"a": 0.5}


def error(a: float, b: float) -> float:
    if b < 0:
        raise ValueError(f"{b - 1} < 0")
    return abs(a - b)


def unseen(a: float) -> float:
    return a + 1
'''
TEST = """from modules.losses.image import RATE, error


def test_error_is_a_distance():
    assert error(3, 2) == 1 and error(1, 4) == 3


def test_the_rate_is_used():
    assert RATE["a"] == 0.5
"""


def changes_of(source: str) -> dict[str, set[str]]:
    """Kind -> lines that a one-line source becomes."""
    lines: dict[str, set[str]] = {}
    for site in python_sites(ast.parse(source)):
        lines.setdefault(site.kind, set()).update(
            source[: site.start] + text + source[site.end :] for text in site.options
        )
    return lines


@pytest.mark.parametrize(
    "source, kind, expected",
    [
        ("x = 4", "number", {"x = 2", "x = 8", "x = 5", "x = 3"}),
        ("x = 0.5", "number", {"x = 0.25", "x = 1.0", "x = 1.5", "x = -0.5"}),
        ("x = -2", "number", {"x = -1", "x = -4", "x = -3", "x = 2"}),
        ("x = 200_000", "number", {"x = 100000", "x = 400000"}),
        ("x = a < b", "comparison", {"x = a <= b"}),
        ("x = a >= b", "comparison", {"x = a > b"}),
        ("x = a == b", "comparison", {"x = a != b"}),
        ("x = c * (a - b)", "arithmetic", {"x = c / (a - b)", "x = c * (a + b)"}),
        ("x = c * (a - b)", "dropped factor", {"x = c", "x = (a - b)"}),
        ("x = min(a, b)", "min, max, mean, sum", {"x = max(a, b)"}),
        ("x = a.clamp(min=b).mean()", "min, max, mean, sum", {"x = a.clamp(max=b).mean()", "x = a.clamp(min=b).sum()"}),
        ("x = f(a, b, c)", "arguments", {"x = f(b, a, c)", "x = f(a, c, b)"}),
        ("x = a if b else c", "not", {"x = a if (not b) else c"}),
        ("x = [a for a in b if a > c]", "not", {"x = [a for a in b if (not (a > c))]"}),
        ("x = f(flag=True)", "boolean", {"x = f(flag=False)"}),
        ("x = a[:, -1]", "index", {"x = a[:, 0]"}),
        ("x = a[0]", "index", {"x = a[-1]"}),
        ("x = c * (a + b).detach()", "detach", {"x = c * (a + b)"}),
    ],
)
def test_every_kind_of_change(source, kind, expected):
    assert changes_of(source)[kind] == expected


@pytest.mark.parametrize(
    "source",
    [
        '"""Of 3 < 4."""',
        "x: Literal[3]",
        "def f(a: g(1, 2)) -> h(3): pass",
        "raise ValueError(3)",
        "assert a < 4",
        "text = f'{a < 3}'",
        "@cached(3)\ndef f(): pass",
        "def __post_init__(self):\n    self.x = 3",
        "if a < 3:\n    raise ValueError",
        "f(inplace=True)",
        "f(1e-8)",
    ],
)
def test_what_says_nothing_about_the_recipe_is_left_alone(source):
    assert changes_of(source) == {}


def test_every_candidate_is_there():
    assert [name for name in CANDIDATES if not (ROOT / name).exists()] == []
    with pytest.raises(UserError, match="scripts/mutate.py: no such file, or none that is changed"):
        candidate_files(ROOT, ["modules/losses", "scripts/mutate.py"])


def test_mutations_change_one_line_and_can_be_read():
    files = candidate_files(ROOT, [])
    drawn = list(islice(draw(ROOT, files, seed=0), 150))
    assert len({(m.path, m.line, m.after) for m in drawn}) == 150 and len({m.kind for m in drawn}) == 10
    for mutation in drawn:
        lines = (ROOT / mutation.path).read_text(encoding="utf-8").splitlines()
        assert lines[mutation.line - 1] == mutation.before != mutation.after and "\n" not in mutation.after
        before = "\n".join(lines)
        lines[mutation.line - 1] = mutation.after
        read = yaml.safe_load if mutation.path.endswith(".yaml") else lambda text: ast.dump(ast.parse(text))
        assert read("\n".join(lines)) != read(before), mutation


def test_the_same_seed_draws_the_same_and_three_seeds_reach_every_file():
    files = candidate_files(ROOT, [])
    drawn = [list(islice(draw(ROOT, files, seed), 40)) for seed in (0, 1, 2)]
    assert drawn[0] == list(islice(draw(ROOT, files, 0), 40)) != drawn[1]
    assert {mutation.path for part in drawn for mutation in part} == {path for path in files if sites(ROOT / path)}


def test_the_mirror_test_comes_first_and_then_the_nearest():
    graph = import_graph(ROOT)
    files = [file for file in seen_by(graph, "modules/losses/image.py") if file.startswith("tests/")]
    assert files[0] == "tests/modules/losses/test_image.py"
    assert files.index("tests/tasks/stages/test_htbsr.py") < files.index("tests/tasks/test_run.py")
    assert "tests/modules/audio/test_pitch.py" not in files
    *_, golden = groups_of_tests(ROOT, graph, "modules/losses/image.py")
    assert golden[:2] == ["tests/test_golden.py", "-k"] and "masked_l1_and_its_gradient" in golden[2]
    assert seen_by(graph, "configs/i2p.yaml").index("tests/test_recipe.py") < 6


@pytest.fixture
def project(tmp_path: Path) -> Path:
    for name, text in {
        "modules/losses/image.py": LOSS,
        "tests/modules/losses/test_image.py": TEST,
        "data/clip.txt": "large",
    }.items():
        path = tmp_path / "project" / name
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
    (tmp_path / "project" / "pytest.ini").write_text("[pytest]\npythonpath = .\nmarkers = slow", encoding="utf-8")
    return tmp_path / "project"


def options(project: Path, **changes: object) -> Namespace:
    return Namespace(
        **{
            "only": [],
            "list": False,
            "seed": 0,
            "count": 99,
            "again": False,
            "minutes": 1,
            "output": project.parent / "table.md",
        }
        | changes
    )


def test_a_run_finds_what_no_test_sees_and_touches_nothing(project, capsys):
    mutate(project, options(project))
    assert (project / "modules/losses/image.py").read_text(encoding="utf-8") == LOSS
    rows = re.findall(
        r"^\| modules/losses/image.py:(\d+) \| .* \| (\w+) \| (.*?) *\|$",
        (project.parent / "table.md").read_text(encoding="utf-8"),
        re.MULTILINE,
    )
    by_line = {int(line): (verdict, by) for line, verdict, by in rows}
    mirror = "tests/modules/losses/test_image.py::"
    assert by_line == {
        3: ("KILLED", mirror + "test_the_rate_is_used"),
        9: ("KILLED", mirror + "test_error_is_a_distance"),
        13: ("SURVIVED", ""),
    }
    assert len(re.findall(r"^\[\d/99, \d+ minutes left\] (KILLED|SURVIVED) ", capsys.readouterr().out, re.M)) == 4


def test_a_stopped_run_resumes_and_survivors_get_another_try(project, capsys):
    mutate(project, options(project, count=1))
    table = project.parent / "table.md"
    first = table.read_text(encoding="utf-8").splitlines()[-1]
    mutate(project, options(project))
    assert first in table.read_text(encoding="utf-8")
    finished = table.read_text(encoding="utf-8")
    test = project / "tests/modules/losses/test_image.py"
    test.write_text(
        TEST + "\n\ndef test_unseen():\n    from modules.losses.image import unseen\n    assert unseen(1) == 2\n",
        encoding="utf-8",
    )
    mutate(project, options(project))
    assert table.read_text(encoding="utf-8") == finished  # nothing was tried again
    mutate(project, options(project, again=True))
    assert "SURVIVED |" not in table.read_text(encoding="utf-8")
    assert len(table.read_text(encoding="utf-8").splitlines()) == len(finished.splitlines())


def test_what_does_not_import_is_replaced(project):
    source = project / "modules/losses/image.py"
    source.write_text(LOSS + "\nFIRST = [5][0]\nSECOND = [5][FIRST - 5]\n", encoding="utf-8")
    mutate(project, options(project))
    rows = (project.parent / "table.md").read_text(encoding="utf-8")
    assert re.search(r"image.py:16 .* \| BROKEN \|  \|", rows)


def test_a_test_that_fails_without_a_change_is_named(project):
    test = project / "tests/modules/losses/test_image.py"
    test.write_text(TEST.replace("== 3", "== 4"), encoding="utf-8")
    with pytest.raises(UserError, match="test_error_is_a_distance fails without any change"):
        mutate(project, options(project))


def test_a_test_that_takes_too_long_does_not_count_as_failed(project, capsys):
    test = project / "tests/modules/losses/test_image.py"
    test.write_text("import time\n\n\ndef test_slowly():\n    time.sleep(60)\n", encoding="utf-8")
    mutate(project, options(project, count=1, minutes=0.05))
    assert "SURVIVED" in capsys.readouterr().out


def test_the_command_lists_without_running(capsys):
    assert main(["--list", "--count", "3", "--only", "modules/losses"]) == 0
    assert capsys.readouterr().out.count("\n  + ") == 3
    assert main(["--list", "--only", "nothing"]) == 2
