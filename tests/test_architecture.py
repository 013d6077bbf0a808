"""Contracts between the parts that no single test sees: import direction, mirrors, configs, forbidden calls, sizes."""

import ast
import re
from dataclasses import is_dataclass
from functools import cache
from pathlib import Path

import pytest
import torch

from modules.system.config import from_dict, load_yaml, nearest
from tasks.engine.registry import BUILT_IN, find_task
from tasks.engine.settings import read_settings
from tasks.engine.trainer_config import TrainerConfig
from tests.conftest import ROOT

# Who may import whom: modules <- data_gen, tasks, inference <- scripts; the three in the middle do not know each other.
ALLOWED = {
    "modules": {"modules"},
    "data_gen": {"modules", "data_gen"},
    "tasks": {"modules", "tasks"},
    "inference": {"modules", "inference"},
    "scripts": {"modules", "data_gen", "tasks", "inference", "scripts"},
    "examples": {"modules", "inference", "examples"},
}
PACKAGES = tuple(ALLOWED)
# Files that may use more than their package, and why. Nothing of inference uses tasks, so there is no circle.
ALSO_ALLOWED = {"tasks/evaluation/checkpoints.py": {"inference"}}  # it measures the frames that inference makes

# The folders of modules from the ground up: each imports from itself and from those before it.
# fmt: off
FLOORS = ("system", "layers", "geometry", "media", "face3d", "rendering", "losses", "analysis", "eg3d", "audio",
          "procedural", "clips", "face_models", "metrics", "rig", "portrait", "official")
# fmt: on

# Files without a test file of their own, and why.
WITHOUT_MIRROR = {
    "modules/media/endings.py": "names of endings; tested by what is written and what is refused",
    "modules/media/rates.py": "five numbers",
    "modules/portrait/photo.py": "two records; the decoders and the pipeline fill them",
    "tasks/evaluation/checkpoints.py": "tested through the command in all protocols (test_evaluate.py)",
    "tasks/evaluation/facts.py": "tested through the command, which resumes from them (test_evaluate.py)",
    "tasks/evaluation/lineup.py": "tested through the command (test_evaluate.py)",
    "tasks/evaluation/networks.py": "two lookups; the loaders are tested with the metrics",
    "tasks/evaluation/outputs.py": "writes what the others make; tested through the command (test_evaluate.py)",
    "tasks/evaluation/pictures.py": "tested through the command (test_evaluate.py)",
    "tasks/evaluation/published.py": "a few numbers; the command's table shows them (test_evaluate.py)",
    "tasks/evaluation/report.py": "tested through the command (test_evaluate.py)",
    "tasks/evaluation/scoring.py": "tested through the command (test_evaluate.py)",
    "tasks/evaluation/settings.py": "tested through wrong keys of the command (test_evaluate.py)",
    "tasks/evaluation/tracing.py": "tested through the command with and without faces (test_evaluate.py)",
    "tasks/data/teacher.py": "an interface, tested with its two makers",
    "tasks/engine/devices.py": "tested through the command (test_run.py) and with two processes (test_trainer.py)",
    "tasks/stages/image_terms.py": "shared by the three image stages and tested with each of them",
    "tasks/engine/ema.py": "tested through checkpoints and resuming (test_trainer.py)",
    "tasks/engine/optimization.py": "tested through whole runs (test_trainer.py)",
    "tasks/engine/registry.py": "tested through wrong names (test_run.py) and every YAML (here)",
    "tasks/engine/retention.py": "tested through whole runs (test_trainer.py)",
    "tasks/engine/settings.py": "tested through the command (test_run.py)",
    "tasks/engine/task.py": "an interface; the toy task of the trainer's tests fills it",
    "tasks/engine/trainer_config.py": "values; refusals are tested through the command (test_run.py)",
}

# Constants of the same name in several files, because they are not the same fact.
EACH_ITS_OWN = {
    "OUTSIDE": "the weight of pixels outside the head, of each stage's own loss",
    "TRAINED": "the parts that a stage trains",
    "TERMS": "the losses of a stage",
    "INPUTS": "what the losses of a stage may read",
}

FORBIDDEN = {
    r"\bos\.system\(": "no shell as a library; use subprocess with a list",
    r"\bos\.popen\(": "no shell as a library; use subprocess with a list",
    r"shell\s*=\s*True": "no shell; pass a list",
    r"\.cuda\(": "the device follows the input",
    r"\bsys\.path\b": "run with python -m from the root",
    r"^\s*except\s*:": "name the error",
    r"^\s*global\s+\w": "no global state",
    r"\bpickle\.loads?\(": "files of strangers must not execute code",
    r"\ballow_pickle\s*=\s*True": "files of strangers must not execute code",
    r"\byaml\.(unsafe_load|full_load)\(": "files of strangers must not execute code",
    r"\bTODO\b|\bFIXME\b|\bXXX\b": "finish it or leave it out",
    r"^from __future__ import annotations": "dataclass fields must be types, not text",
}
LINKS = re.compile(r"""\]\(([^)\s]+)[^)]*\)|(?:src|href|srcset)="([^"\s]+)""")
NAMED = re.compile(
    r"`((?:modules|tasks|data_gen|inference|scripts|examples|configs|tests|docs)/[\w./-]*)`(?!:$)", re.MULTILINE
)  # in a document; a line that ends in a colon may name a file to be made
UPWARDS = re.compile(r"(?:\.\./)+\w[\w./-]*|\bROOT\.parent\b")
MACHINE_PATHS = re.compile(r"(?<![\w.])/(home|root|work|opt|mnt|data\d*|Users|scratch|tmp)/\w+")
LARGEST_FILE, LARGEST_FUNCTION, MOST_ARGUMENTS = 500, 60, 8


def files(*packages: str) -> list[str]:
    return sorted(
        path.relative_to(ROOT).as_posix()
        for package in packages
        for path in (ROOT / package).rglob("*.py")
        if path.name != "__init__.py"
    )


SOURCES = files(*PACKAGES)
DOCUMENTS = sorted(
    path.relative_to(ROOT).as_posix()
    for path in (
        *ROOT.glob("*.md"),
        *(path for folder in ("docs", "configs", "tests", *PACKAGES) for path in (ROOT / folder).rglob("*.md")),
    )
)
SHELL = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "scripts").glob("*.sh"))
CONFIGS = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "configs").rglob("*.yaml"))


@cache
def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def tree(name: str) -> ast.Module:
    return ast.parse(text(name))


def imports(name: str) -> set[str]:
    """Modules that a file imports, dotted; `from a import b` counts as a and a.b."""
    found = set()
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: relative import"
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def dotted(name: str) -> str:
    return name.removesuffix(".py").replace("/", ".")


def floor(module: str) -> int:
    """Number in `FLOORS` of the folder that a dotted name of modules belongs to."""
    return FLOORS.index(module.split(".")[1])


def functions(name: str) -> list[ast.FunctionDef]:
    """Functions and methods, without those inside functions."""
    places = [tree(name), *(node for node in ast.walk(tree(name)) if isinstance(node, ast.ClassDef))]
    return [node for place in places for node in place.body if isinstance(node, ast.FunctionDef)]


def constants(name: str) -> set[str]:
    """Public names in capitals that a file defines for all of it; single letters are type variables."""
    assigned = [
        target
        for node in tree(name).body
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for target in (node.targets if isinstance(node, ast.Assign) else [node.target])
    ]
    names = [part for target in assigned for part in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return {part.id for part in names if isinstance(part, ast.Name) and re.fullmatch(r"[A-Z][A-Z0-9_]+", part.id)}


def is_command(name: str) -> bool:
    return '__name__ == "__main__"' in text(name)


def test_there_is_something_to_check() -> None:
    assert len(SOURCES) > 30 and "configs/base.yaml" in CONFIGS


@pytest.mark.parametrize("name", SOURCES)
def test_imports_point_one_way(name: str) -> None:
    package = name.partition("/")[0]
    own = {module for module in imports(name) if module.partition(".")[0] in {*PACKAGES, "tests"}}
    allowed = ALLOWED[package] | ALSO_ALLOWED.get(name, set())
    wrong = {module for module in own if module.partition(".")[0] not in allowed}
    assert not wrong, f"{name} imports {', '.join(sorted(wrong))}"


@pytest.mark.parametrize("name", files("modules"))
def test_modules_import_from_their_own_floor_and_below(name: str) -> None:
    own = floor(dotted(name))
    above = {module for module in imports(name) if module.startswith("modules.") and floor(module) > own}
    assert not above, f"{name} imports {', '.join(sorted(above))} from above"


def test_no_imports_go_in_a_circle() -> None:
    known = {dotted(name): name for name in SOURCES}
    waiting = {module: imports(name) & known.keys() for module, name in known.items()}
    while ready := {module for module, needs in waiting.items() if not needs & waiting.keys()}:
        waiting = {module: needs for module, needs in waiting.items() if module not in ready}
    assert not waiting, f"a circle is among, or reached from, {', '.join(sorted(waiting))}"


@pytest.mark.parametrize("name", files("modules", "data_gen", "tasks", "inference", "examples"))
def test_every_file_has_its_test(name: str) -> None:
    mirror = Path("tests", name).with_name(f"test_{Path(name).name}")
    if name in WITHOUT_MIRROR:
        assert not (ROOT / mirror).exists(), f"{mirror} exists; drop the exemption"
    else:
        assert (ROOT / mirror).is_file(), f"{mirror} is missing"


def test_every_exemption_is_of_a_file() -> None:
    assert [name for name in WITHOUT_MIRROR if not (ROOT / name).is_file()] == []


@pytest.mark.parametrize(
    "name", files("tests/modules", "tests/data_gen", "tests/tasks", "tests/inference", "tests/examples")
)
def test_every_test_has_its_file(name: str) -> None:
    path = Path(name)
    if path.name.startswith("test_"):
        source = Path(*path.parts[1:]).with_name(path.name.removeprefix("test_"))
        assert (ROOT / source).is_file(), f"{name} tests no file; {source} does not exist"


@pytest.mark.parametrize("name", files(*PACKAGES))
def test_nothing_lies_unused(name: str) -> None:
    used = any(dotted(name) in imports(other) for other in SOURCES if other != name)
    assert used or is_command(name) or dotted(name) in BUILT_IN.values(), f"{name} is imported by nobody, no command"


def test_no_constant_has_two_homes() -> None:
    """A fact stands in one file. Scripts, which nobody imports, may use the same names as each other."""
    homes: dict[str, set[str]] = {}
    for name in SOURCES:
        for constant in constants(name):
            homes.setdefault(constant, set()).add(name)
    twice = {
        constant: sorted(names)
        for constant, names in homes.items()
        if constant not in EACH_ITS_OWN
        and len({name if not name.startswith("scripts/") else "scripts/" for name in names}) > 1
    }
    assert not twice, "\n".join(f"{constant}: {', '.join(names)}" for constant, names in twice.items())


@pytest.mark.parametrize("name", SOURCES)
def test_no_forbidden_calls(name: str) -> None:
    for number, line in enumerate(text(name).splitlines(), 1):
        for pattern, reason in FORBIDDEN.items():
            assert not re.search(pattern, line), f"{name}:{number}: {line.strip()} ({reason})"


@pytest.mark.parametrize("name", SOURCES)
def test_torch_load_reads_weights_only(name: str) -> None:
    for node in ast.walk(tree(name)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            safe = any(k.arg == "weights_only" and getattr(k.value, "value", None) is True for k in node.keywords)
            assert safe, f"{name}:{node.lineno}: torch.load without weights_only=True"


@pytest.mark.parametrize("name", [*SOURCES, *files("tests"), *CONFIGS, *DOCUMENTS, *SHELL])
def test_no_paths_of_a_machine(name: str) -> None:
    found = MACHINE_PATHS.search(text(name))
    assert not found or name == "tests/test_architecture.py", f"{name}: {found.group()}"


@pytest.mark.parametrize("name", [*SOURCES, *files("tests"), *CONFIGS, *DOCUMENTS, *SHELL])
def test_nothing_points_outside_the_repository(name: str) -> None:
    """Folders elsewhere come from environment variables; the tests' default for them stands in tests/conftest.py alone.

    Documents and configs may go up to a file that exists, and texts of configs to any (`base: ../toy.yaml`).
    """
    if name in ("tests/conftest.py", "tests/test_architecture.py"):
        return
    for found in UPWARDS.findall(text(name)):
        path = (ROOT / name).parent / found
        there = name.endswith((".md", ".yaml")) and path.exists() and path.resolve().is_relative_to(ROOT)
        in_a_text = not name.endswith(".yaml") and found.endswith(".yaml")
        assert there or in_a_text, f"{name} points to {found}; name the folder by an environment variable"


@pytest.mark.parametrize("name", SOURCES)
def test_libraries_do_not_print(name: str) -> None:
    prints = [
        node.lineno
        for node in ast.walk(tree(name))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
    ]
    assert not prints or is_command(name) or name == "modules/system/errors.py", f"{name}:{prints[0]}: it prints"


@pytest.mark.parametrize("name", SOURCES)
def test_every_file_opens_with_what_it_is(name: str) -> None:
    docstring = ast.get_docstring(tree(name)) or ""
    assert docstring, f"{name} has no docstring"
    if is_command(name):
        assert dotted(name) in docstring, f"the docstring of {name} does not show its command python -m {dotted(name)}"


@pytest.mark.parametrize("name", SOURCES)
def test_public_signatures_have_types(name: str) -> None:
    for node in functions(name):
        if node.name.startswith("_") and node.name != "__init__":
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        bare = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
        assert not bare and node.returns is not None, f"{name}:{node.lineno}: {node.name} lacks types {bare}"


@pytest.mark.parametrize("name", SOURCES)
def test_sizes_stay_readable(name: str) -> None:
    assert len(text(name).splitlines()) <= LARGEST_FILE, f"{name} is longer than {LARGEST_FILE} lines"
    for node in functions(name):
        length = node.end_lineno - node.lineno + 1
        assert length <= LARGEST_FUNCTION, f"{name}:{node.lineno}: {node.name} has {length} lines"
        count = len(
            [
                a
                for a in (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs)
                if a.arg not in ("self", "cls")
            ]
        )
        assert count <= MOST_ARGUMENTS, f"{name}:{node.lineno}: {node.name} takes {count} arguments"
        rest = node.args.kwarg  # fine for names with one kind of value, not to hand options down
        handed_down = rest and (rest.annotation is None or ast.unparse(rest.annotation) in ("Any", "object"))
        assert not handed_down, f"{name}:{node.lineno}: {node.name} takes **kwargs"


@pytest.mark.parametrize("name", CONFIGS)
def test_every_yaml_builds_the_config_of_its_task(name: str) -> None:
    path = ROOT / name
    values = load_yaml(path)
    if "task" in values:
        settings = read_settings(path)
        assert is_dataclass(settings.task_config)
        assert settings.resolved["task"] == values["task"]
    elif name == "configs/base.yaml":
        assert from_dict(TrainerConfig, values).clip == 1.0
    else:
        pytest.skip("no training config; its own command checks it")


@pytest.mark.parametrize("name", sorted(BUILT_IN))
def test_every_task_is_registered_under_the_name_of_its_file(name: str) -> None:
    task = find_task(name)
    assert task.name == name and is_dataclass(task.config_class)


@pytest.mark.parametrize("name", [name for name in CONFIGS if name.startswith("configs/demo/")])
def test_every_demo_config_builds_its_modules_and_optimisers(name: str) -> None:
    own = read_settings(ROOT / name)
    # the stage before has not been trained here
    fresh = ["init_from=''"] if hasattr(own.task_config, "init_from") else []
    settings = read_settings(ROOT / name, fresh)
    task = settings.task(settings.task_config, torch.Generator().manual_seed(0))
    assert task.modules and all(spec.groups for spec in task.optimizers())


# ---- documents


def prose(name: str) -> str:
    """A document without its code."""
    return re.sub(r"`[^`\n]*`", "", re.sub(r"^( *)```.*?^\1```", "", text(name), flags=re.DOTALL | re.MULTILINE))


def anchors(name: str) -> set[str]:
    """What `#...` may name in a document: its headings, as GitHub writes them, and its own anchors."""
    body = re.sub(r"^( *)```.*?^\1```", "", text(name), flags=re.DOTALL | re.MULTILINE)
    found = set(re.findall(r"""<a (?:id|name)="([^"]+)""", body))
    for title in re.findall(r"^#{1,6} +(.+?) *$", body, flags=re.MULTILINE):
        title = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)
        slug = re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")
        number = sum(1 for anchor in found if anchor == slug or re.fullmatch(re.escape(slug) + r"-\d+", anchor))
        found.add(f"{slug}-{number}" if number else slug)
    return found


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_relative_link_of_a_document_resolves(name: str) -> None:
    for pair in LINKS.findall(prose(name)):
        link = "".join(pair)
        if re.match(r"[a-z]+:", link):  # another site; not asked here
            continue
        path, _, anchor = link.partition("#")
        target = ((ROOT / name).parent / path).resolve() if path else ROOT / name
        assert target.exists() and target.is_relative_to(ROOT), f"{name}: {link} leads nowhere"
        if anchor and target.suffix == ".md":
            known = anchors(target.relative_to(ROOT).as_posix())
            assert anchor in known, f"{name}: {link}: there is no such heading{nearest(anchor, known)}"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_file_that_a_document_names_exists(name: str) -> None:
    missing = [path for path in NAMED.findall(text(name)) if not (ROOT / path).exists()]
    assert not missing, f"{name} names {', '.join(missing)}"


def test_the_page_of_the_architecture_names_every_folder_of_the_code() -> None:
    folders = {Path(name).parent.as_posix() for name in SOURCES}
    missing = sorted(folder for folder in folders if f"`{folder}/`" not in text("docs/architecture.md"))
    assert not missing, f"docs/architecture.md has no line for {', '.join(missing)}"
