"""References that can be followed: paths of docs/ in code, configs and documents; no section number without a page."""

import ast
import io
import re
import tokenize
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGES = ("modules", "tasks", "data_gen", "inference", "scripts", "tests")
PAGES = "face3d|head|training|audio2motion|data_gen|sr_torso_eg3d|paper_numbers"

# The path of a page, perhaps with an anchor (#2-7) or with several (#2-7 and #2-8).
REFERENCE = re.compile(r"(?<![\w./-])(docs/[\w/-]+\.md)((?:#[\w-]+(?:(?:, | and | to )#[\w-]+)*)?)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
CODE = re.compile(r"```.*?```|`[^`\n]*`", re.DOTALL)
ANCHOR = re.compile(r'<a id="([^"]+)"></a>')
NUMBERED = re.compile(r"^#{2,3} (\d+(?:\.\d+)?)\.? ", re.MULTILINE)
NAMED_PATH = re.compile(rf"`((?:{'|'.join((*PACKAGES, 'configs', 'docs'))})/[\w./-]*)`")

# A section that a reader cannot look up. A number like 2.7 counts if it fills brackets, or if a word follows it there.
# These are no citations: numbers with a unit (31.4 M parameters), tuples with a number that is no section (0.3, 4.0),
# and sections of another work that is named before them (StyleGAN2, section 2.2).
NUMBER = r"[1-9]\d?\.[1-9]\d?"
CITATIONS = re.compile(
    "|".join(
        (
            rf"\b(?:{PAGES})\.md\b",  # training.md 1.3
            r"\bspec(?:ification)?\b[\s/:]+(?:[\w-]+,? ){0,2}\d",  # spec 2.6; spec face3d 8; spec: sr, section 12
            rf"\((?:{PAGES}|sr|audio)[ ,]+\d{{1,2}}(?:\.\d+)?[,);]",  # (face3d 10, sr 12)
            rf"\({NUMBER}(?:(?:, | and ){NUMBER})*(?:[);]|, [a-z])",  # (2.7); (2.7, 2.8); (2.7, randn)
            r"(?:\(|[;.] |^ *#? *)sections? \d",  # (section 7)
        )
    )
)


def files(folder: str, *suffixes: str) -> list[str]:
    return sorted(
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in suffixes and "__pycache__" not in path.parts
    )


DOCUMENTS = [*sorted(path.name for path in ROOT.glob("*.md")), *files("docs", ".md")]
SOURCES = [name for package in PACKAGES for name in files(package, ".py")] + files("configs", ".yaml")
SOURCES.remove("tests/test_references.py")  # it shows what must not be
TEXTS = [*DOCUMENTS, *SOURCES, *files("scripts", ".sh")]
SPECIFICATION = [*files("docs/spec", ".md"), "docs/glossary.md"]


@cache
def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


@cache
def anchors(name: str) -> set[str]:
    """What can stand behind # of a document: ids, and headings as GitHub spells them."""
    headings = re.findall(r"^#+ (.*)$", text(name), re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return slugs | set(ANCHOR.findall(text(name)))


def broken(content: str) -> list[str]:
    """References of a text that lead nowhere."""
    found = []
    for page, behind in REFERENCE.findall(content):
        if not (ROOT / page).is_file():
            found.append(page)
        else:
            found += [f"{page}#{anchor}" for anchor in re.findall(r"#([\w-]+)", behind) if anchor not in anchors(page)]
    return found


def prose(name: str) -> list[str]:
    """Comments and docstrings of a source file, references taken out."""
    source = text(name)
    if not name.endswith(".py"):
        parts = [line[line.index("#") :] for line in source.splitlines() if "#" in line]
    else:
        owners = (ast.Module, ast.ClassDef, ast.FunctionDef)
        parts = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, owners)]
        tokens = tokenize.generate_tokens(io.StringIO(source).readline)
        parts += [token.string for token in tokens if token.type == tokenize.COMMENT]
    return [REFERENCE.sub("", part) for part in parts]


@pytest.mark.parametrize("name", TEXTS)
def test_references_lead_somewhere(name: str) -> None:
    assert broken(text(name)) == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_links_lead_somewhere(name: str) -> None:
    """Links between documents, and to files of the repository; addresses of the web are not opened."""
    for target in LINK.findall(CODE.sub("", text(name))):
        path, _, anchor = target.partition("#")
        if re.match(r"\w+:", path):
            continue
        found = (ROOT / name).parent / path if path else ROOT / name
        assert found.exists(), f"{name}: no file for the link {target}"
        if anchor:
            page = found.resolve().relative_to(ROOT).as_posix()
            assert anchor in anchors(page), f"{name}: no anchor for the link {target}"


@pytest.mark.parametrize("name", SOURCES)
def test_no_section_is_cited_without_its_page(name: str) -> None:
    cited = [match.group() for part in prose(name) for match in CITATIONS.finditer(part)]
    assert not cited, f"{name} cites {', '.join(cited)}; name its page as in docs/spec"


@pytest.mark.parametrize("name", SPECIFICATION)
def test_every_numbered_section_has_its_anchor(name: str) -> None:
    lines = text(name).splitlines()
    for number, line in enumerate(lines):
        if match := NUMBERED.match(line):
            expected = f'<a id="{match[1].replace(".", "-")}"></a>'
            assert lines[number - 1] == expected, f"{name}:{number + 1}: {expected} must stand before this heading"
    ids = ANCHOR.findall(text(name))
    assert len(ids) == len(set(ids)), f"{name} has an anchor twice"


@pytest.mark.parametrize("name", SPECIFICATION)
def test_the_specification_names_files_that_exist(name: str) -> None:
    missing = [path for path in NAMED_PATH.findall(text(name)) if not (ROOT / path).exists()]
    assert not missing, f"{name} names {', '.join(missing)}"


@pytest.mark.parametrize(
    "citation",
    [
        "(2.7)",
        "(2.7, 2.8)",
        "(2.7, randn)",
        "(2.2); boolean",
        "# spec 2.5",
        "(spec face3d 8)",
        "(spec\nface3d 3, 7)",
        "spec/training.md, section 2",
        "face3d.md 5",
        "(face3d 10, sr 12)",
        "(spec: super-resolution, section 12)",
        "(section 7)",
    ],
)
def test_a_bare_citation_is_found(citation: str) -> None:
    assert CITATIONS.search(f"What it does {citation}.")


@pytest.mark.parametrize(
    "innocent",
    [
        "(31.4 M parameters)",
        "(2.7, 4.0)",
        "(0.3, 0.155)",
        "(StyleGAN2, section 2.2)",
        "EG3D's paper, 4.3",
        "(100, 30)",
        "[-0.5, 0.5)",
        "(10.0)",
        "spec.groups",
        "(paper, section 3.2)",
    ],
)
def test_other_numbers_are_no_citations(innocent: str) -> None:
    assert not CITATIONS.search(f"What it does {innocent}.")


def test_references_that_lead_nowhere_are_found() -> None:
    page = "docs/spec/" + "training.md"
    assert broken(f"{page}, {page}#2-7 and #2-8, {page}#1-2 to #1-4") == []
    assert broken(f"{page}#2-77 and #2-7, docs/" + "nowhere.md#1") == [f"{page}#2-77", "docs/" + "nowhere.md"]


def test_there_is_something_to_check() -> None:
    cited = sum(len(REFERENCE.findall(text(name))) for name in SOURCES)
    assert cited > 100 and len(SPECIFICATION) == len(list(Path(ROOT, "docs/spec").glob("*.md"))) + 1
