"""What mutation testing changes (see mutate.py): sites in source and YAML, and what may replace them.

Left alone: docstrings, messages, type hints, decorators, `__post_init__`, tests that only refuse a value, keywords that
change no result, numbers that guard against division by zero, and what is no recipe in a YAML.
"""

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import yaml

# fmt: off
SWAPPED = {ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
           ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult}
# fmt: on
OTHER_NAME = {"min": "max", "amin": "amax", "minimum": "maximum", "argmin": "argmax", "mean": "sum"}
OTHER_NAME |= {value: key for key, value in OTHER_NAME.items()}
SYMMETRIC = {"min", "max", "minimum", "maximum", "isinstance"}
FASTER = {"inplace", "fused"}  # keywords that change no result
NOT_RECIPE = {"log", "checkpoint", "loader", "seed"}  # of a YAML
GUARD = 1e-5  # numbers up to it are there against division by zero


class Site(NamedTuple):
    """A piece of a line (from 1) that can be changed: its columns in bytes, and what may replace it."""

    kind: str
    line: int
    start: int
    end: int
    options: tuple[str, ...]


class Mutation(NamedTuple):
    """A changed line (from 1) of a file."""

    path: str
    line: int
    kind: str
    before: str
    after: str

    @property
    def cells(self) -> str:
        """The first cells of its row in the table."""
        cells = (f"{self.path}:{self.line}", f"`{self.before.strip()}`", f"`{self.after.strip()}`")
        return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells)


# ---- where a file can be changed


def number_options(value: float) -> tuple[str, ...]:
    """Halved, doubled, one more and less, the other sign where there can be one; floats stay floats, in YAML too."""
    near = (value + 1, value - 1) if abs(value) < 100 else ()  # one step of many is no change
    if isinstance(value, int):
        numbers = (int(value / 2), 2 * value, *near, abs(value))
        return tuple(dict.fromkeys(str(number) for number in numbers if number != value))
    texts = [f"{number:.6g}" for number in (value / 2, 2 * value, *near, -value) if number != value]
    return tuple(t if "." in t else t.replace("e", ".0e") if "e" in t else f"{t}.0" for t in texts)


def changed(node: ast.AST, field: str, value: object) -> str:
    """Source of `node` with another value of one field."""
    return ast.unparse(type(node)(**{name: value if name == field else getattr(node, name) for name in node._fields}))


def alone(node: ast.expr) -> str:
    """Source that can stand anywhere."""
    simple = isinstance(node, ast.Name | ast.Attribute | ast.Call | ast.Subscript | ast.Constant)
    return ast.unparse(node) if simple else f"({ast.unparse(node)})"


def changes(node: ast.AST) -> Iterator[tuple[str, ast.AST, tuple[str, ...]]]:
    """Kind of change, changed node and replacements: the rules for a node that is no call."""
    match node:
        case ast.Constant(value=bool(value)):
            yield "boolean", node, (str(not value),)
        case ast.Constant(value=int() | float() as value) if value == 0 or value > GUARD:
            yield "number", node, number_options(value)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=value)):
            yield "number", node, number_options(-value)
        case ast.Subscript():
            for index in node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]:
                if ast.unparse(index) in ("0", "-1"):
                    yield "index", index, ("-1" if ast.unparse(index) == "0" else "0",)
        case ast.Compare(ops=[op]) if type(op) in SWAPPED:
            yield "comparison", node, (changed(node, "ops", [SWAPPED[type(op)]()]),)
        case ast.BinOp(op=op) if type(op) in SWAPPED and not _is_text(node.left) and not _is_text(node.right):
            yield "arithmetic", node, (changed(node, "op", SWAPPED[type(op)]()),)
            if isinstance(op, ast.Mult):
                yield "dropped factor", node, (alone(node.left), alone(node.right))
        case ast.If() | ast.IfExp() | ast.While() | ast.comprehension(ifs=[_]):
            test = node.ifs[0] if isinstance(node, ast.comprehension) else node.test
            yield "not", test, (f"(not {alone(test)})",)
        case ast.keyword(arg="min" | "max" as name):
            yield "min, max, mean, sum", _word(name, node.lineno, node.col_offset), (OTHER_NAME[name],)


def changes_of_call(node: ast.Call) -> Iterator[tuple[str, ast.AST, tuple[str, ...]]]:
    """The same for a call: its function, the order of its arguments, the call as a whole."""
    method = isinstance(node.func, ast.Attribute)
    name = node.func.attr if method else getattr(node.func, "id", "")
    if name == "detach" and not node.args:
        yield "detach", node, (alone(node.func.value),)
    if name in OTHER_NAME and (method or name in ("min", "max")):
        word = _word(name, node.func.end_lineno, node.func.end_col_offset - len(name))
        yield "min, max, mean, sum", word, (OTHER_NAME[name],)
    if name not in SYMMETRIC and not any(isinstance(argument, ast.Starred) for argument in node.args):
        for k, (a, b) in enumerate(zip(node.args, node.args[1:])):
            if type(a) is type(b) and ast.unparse(a) != ast.unparse(b):  # else it is a TypeError, most likely
                yield "arguments", node, (changed(node, "args", [*node.args[:k], b, a, *node.args[k + 2 :]]),)


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.JoinedStr | ast.List | ast.Tuple) or isinstance(getattr(node, "value", None), str)


def _word(word: str, line: int, start: int) -> ast.Name:
    """A node that spans one word."""
    return ast.Name(word, lineno=line, end_lineno=line, col_offset=start, end_col_offset=start + len(word))


def left_alone(node: ast.AST, name: str, child: object) -> bool:
    """Whether nothing is changed in a child of `node` (see the head of this file)."""
    if name in ("annotation", "returns", "decorator_list") or not isinstance(child, ast.AST):
        return True
    if isinstance(child, ast.Raise | ast.Assert | ast.JoinedStr) or getattr(child, "name", "") == "__post_init__":
        return True
    if isinstance(child, ast.If) and not child.orelse and isinstance(child.body[0], ast.Raise):
        return True
    with_sign = isinstance(node, ast.UnaryOp) and isinstance(child, ast.Constant)  # changed together
    return with_sign or (isinstance(child, ast.keyword) and child.arg in FASTER)


def python_sites(node: ast.AST) -> Iterator[Site]:
    """Sites of a node and of what is in it."""
    for kind, part, options in changes_of_call(node) if isinstance(node, ast.Call) else changes(node):
        if part.lineno == part.end_lineno:
            yield Site(kind, part.lineno, part.col_offset, part.end_col_offset, options)
    for name, value in ast.iter_fields(node):
        for child in value if isinstance(value, list) else [value]:
            if not left_alone(node, name, child):
                yield from python_sites(child)


def yaml_sites(node: yaml.Node) -> Iterator[Site]:
    """Numbers of a YAML's recipe."""
    if isinstance(node, yaml.ScalarNode) and node.tag.endswith((":int", ":float")):
        value = yaml.safe_load(node.value)
        start, end = node.start_mark, node.end_mark
        yield Site("number", start.line + 1, start.column, end.column, number_options(value))
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from yaml_sites(value) if key.value not in NOT_RECIPE else ()
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            yield from yaml_sites(value)


def sites(path: Path) -> list[Site]:
    """All sites of a file."""
    text = path.read_text(encoding="utf-8")
    return list(yaml_sites(yaml.compose(text)) if path.suffix == ".yaml" else python_sites(ast.parse(text)))


# ---- which of them are tried


def in_random_order(sites: list[Site], random: np.random.Generator) -> list[Site]:
    """Shuffle sites so that every kind has its turn, however many sites it has."""
    kinds: dict[str, list[Site]] = {}
    for k in random.permutation(len(sites)):
        kinds.setdefault(sites[k].kind, []).append(sites[k])
    ordered = []
    while kinds:
        kind = random.choice(list(kinds))
        ordered.append(kinds[kind].pop())
        if not kinds[kind]:
            del kinds[kind]
    return ordered[::-1]  # they are taken from the end


def draw(root: Path, paths: list[str], seed: int, turns: int = 20) -> Iterator[Mutation]:
    """Mutations of the files `paths` below `root`, each site at most once, and no line twice in the same way.

    The odd draws take the files in turn, seed s from file `turns` s on, so that a few seeds cover them all; the even
    draws any file, the more often the more can be changed in it.
    """
    random = np.random.default_rng(seed)
    waiting = {path: in_random_order(sites(root / path), random) for path in paths}
    files = [paths[k] for k in np.random.default_rng(0).permutation(len(paths))]
    files = files[seed * turns % len(files) :] + files[: seed * turns % len(files)]
    drawn = set()  # of a[0] the index and the number can both become a[-1]
    for number in range(sum(map(len, waiting.values()))):
        files = [path for path in files if waiting[path]]
        if number % 2 == 0:
            path = files.pop(0)
            files.append(path)
        else:
            sizes = np.array([len(waiting[path]) for path in files])
            path = random.choice(files, p=sizes / sizes.sum())
        site = waiting[path].pop()
        before = (root / path).read_text(encoding="utf-8").splitlines()[site.line - 1]
        line = before.encode()
        after = line[: site.start] + str(random.choice(site.options)).encode() + line[site.end :]
        if (path, site.line, after) not in drawn:
            drawn.add((path, site.line, after))
            yield Mutation(str(path), site.line, site.kind, before, after.decode())
