"""What the keys of a config are: name, type, value and meaning, taken from its dataclasses and their comments."""

import inspect
import json
import re
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from modules.system.config import to_dict

_FIELD = re.compile(r"^ {4}(\w+): [^#]*?(?:#\s*(.*))?$")
_COMMENT = re.compile(r"#\s*(.*)$")
_ATTRIBUTE = re.compile(r"^ {8}([\w, ]+): (.*)$")


@dataclass(frozen=True)
class Key:
    """A key: `name` with dots, its type in words, its value as YAML would have it, and what it means (may be empty)."""

    name: str
    type: str
    value: Any
    meaning: str


def keys_of(config: Any, prefix: str = "") -> Iterator[Key]:
    """The keys of a config, an instance of a dataclass, groups before what they hold."""
    hints, meanings = get_type_hints(type(config)), meanings_of(type(config))
    for field in fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if is_dataclass(value):
            yield from keys_of(value, f"{name}.")
        else:
            yield Key(name, type_in_words(hints[field.name]), value, meanings.get(field.name, ""))


def table_of_keys(keys: Iterable[Key]) -> str:
    """A line for each key: name, value, type and meaning."""
    rows = [(key.name, json.dumps(to_dict(key.value)), key.type, key.meaning) for key in keys]
    widths = [min(max(len(row[column]) for row in rows), 34) for column in range(3)]
    columns = ("  ".join(text.ljust(width) for text, width in zip(row, widths)) for row in rows)
    return "\n".join(f"{known}  {row[3]}".rstrip() for known, row in zip(columns, rows))


def key_names(kind: type, prefix: str = "") -> Iterator[str]:
    """Dotted names of all keys and groups of a dataclass, without an instance of it."""
    for name, hint in get_type_hints(kind).items():
        if name in {field.name for field in fields(kind)}:
            yield prefix + name
            for part in (hint, *get_args(hint)):
                if is_dataclass(part):
                    yield from key_names(part, f"{prefix}{name}.")


def meanings_of(kind: type) -> dict[str, str]:
    """What the fields of a dataclass mean: the comment behind each, or its line in the docstring."""
    found: dict[str, str] = {}
    for owner in reversed([base for base in kind.__mro__ if is_dataclass(base)]):
        for line in (inspect.getdoc(owner) or "").splitlines():
            if match := _ATTRIBUTE.match(" " * 4 + line):
                found |= {name.strip(): match[2].strip() for name in match[1].split(",")}
        name = ""
        for line in inspect.getsource(owner).splitlines():
            if match := _FIELD.match(line):
                name = match[1]
            if name and (comment := _COMMENT.search(line)):
                found[name], name = comment[1].strip(), ""
            elif line.startswith("    def "):
                break
    return found


def type_in_words(hint: Any) -> str:
    """int, a|b, float or null, list of int, float by name."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "|".join(map(str, arguments))
    if origin in (Union, types.UnionType):
        return " or ".join("null" if part is type(None) else type_in_words(part) for part in arguments)
    if origin in (tuple, list):
        return f"list of {type_in_words(arguments[0])}" if arguments else "list"
    if origin in (dict, Mapping):
        return f"{type_in_words(arguments[1])} by name"
    return "text" if hint is str else getattr(hint, "__name__", str(hint))
