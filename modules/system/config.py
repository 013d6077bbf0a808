"""Settings: YAML files with inheritance and overrides -> checked, nested dataclasses, and back.

A file may name one or several others with `base:` (paths relative to it); mappings are merged key by key, later files
win, the file's own keys win over its bases. For a dataclass with class methods such as `full()` and `demo(stage)` a
mapping may say `preset: demo`, give the method's arguments beside it (`stage: 1`), and change single values.
"""

import difflib
import re
import types
from collections.abc import Container, Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from modules.system.errors import UserError
from modules.system.files import whole_file

T = TypeVar("T")
COMMAND_LINE = "the command line"


class UnknownKeyError(UserError):
    """A config has a key that its dataclass has not.

    Attributes:
        key: dotted.
    """

    def __init__(self, message: str, key: str) -> None:
        super().__init__(message)
        self.key = key


class Settings(dict):
    """A merged mapping that remembers how it was written.

    Attributes:
        sources: dotted key -> the file that it came from.
        texts: dotted key -> the text of its value, so that what YAML takes for a number, a date or a truth value can
            still be a name; items of lists are named by their number.
    """

    def __init__(
        self, values: Mapping[str, Any], sources: Mapping[str, str], texts: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(values)
        self.sources, self.texts = dict(sources), dict(texts or {})

    def part(self, keys: Container[str]) -> "Settings":
        """The same with these keys of the top alone."""
        return Settings({key: value for key, value in self.items() if key in keys}, self.sources, self.texts)


def load_yaml(path: Path | str, overrides: Iterable[str] = ()) -> Settings:
    """Read a YAML file with its bases, then apply `overrides`.

    Args:
        path: the file.
        overrides: `key=value` with dots for nested keys; the value is YAML: `loss.l1=0.5`, `widths=[16, 32]`, or else
            text: `videos=*.mp4`.
    Raises:
        UserError: no such file, bad YAML, a repeated key, bases in a circle, a bad override.
    """
    settings = _load(Path(path), ())
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals or not all(key.split(".")):
            raise UserError(f"cannot read the setting '{override}'; write it as key=value or group.key=value")
        value, texts = _parse_override(text)
        for part in reversed(key.split(".")):
            value, texts = {part: value}, {_dotted(part, name): text for name, text in texts.items()}
        _merge(settings, value, settings.sources, COMMAND_LINE)
        settings.texts |= texts
    return settings


def from_dict(kind: type[T], values: Mapping[str, Any], start: T | None = None) -> T:
    """Build the dataclass `kind` from a mapping; unknown keys and values of a wrong type are refused.

    Where `kind` wants a text or a path, `2024`, `no` and `1e5` of a file or of the command line are one.

    Missing keys keep the value of `start`, or the default. Nested mappings build nested dataclasses, starting from the
    default of their field.

    Raises:
        UserError: a wrong key (the nearest right one is named), a missing key, a value of a wrong type, or a value that
            `kind` refuses; with the file if `values` comes from `load_yaml`.
    """
    return _Builder(getattr(values, "sources", {}), getattr(values, "texts", {})).dataclass(kind, values, start, "")


def to_dict(config: Any) -> Any:
    """A dataclass as plain mappings, lists, numbers and strings, as `save_yaml` and `from_dict` take them."""
    if is_dataclass(config):
        return {field.name: to_dict(getattr(config, field.name)) for field in fields(config)}
    if isinstance(config, Mapping):
        return {str(key): to_dict(value) for key, value in config.items()}
    if isinstance(config, list | tuple):
        return [to_dict(value) for value in config]
    if isinstance(config, Enum):
        return config.value
    return str(config) if isinstance(config, Path) else config


def save_yaml(path: Path | str, values: Mapping[str, Any]) -> None:
    """Write a mapping or a dataclass, made plain by `to_dict`, as YAML, keys in their order."""
    text = yaml.dump(to_dict(values), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
    with whole_file(Path(path)) as part:
        part.write_text(text, encoding="utf-8")


def changed_keys(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Dotted keys whose values differ between two mappings."""
    changed = []
    for key in sorted(old.keys() | new.keys()):
        before, after = old.get(key), new.get(key)
        if isinstance(before, Mapping) and isinstance(after, Mapping):
            changed += changed_keys(before, after, f"{prefix}{key}.")
        elif before != after or (key in old) != (key in new):
            changed.append(prefix + key)
    return changed


def nearest(word: str, choices: Iterable[str]) -> str:
    """'; did you mean X?' or '; the choices are ...', to end an error message about `word`."""
    choices = sorted(choices)
    close = difflib.get_close_matches(word, choices, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; the choices are {', '.join(choices)}"


# ---- reading


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses repeated keys and reads 1e-4 as a number, and dates as text."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (as PyYAML has it)
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, str):
                raise yaml.MarkedYAMLError(problem=f"the key {key} is no word", problem_mark=key_node.start_mark)
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"the key {key} is repeated", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Writes what `_Loader` reads back: the text '1e5' in quotes."""


_EXPONENT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)[eE][-+]?\d+$")
for _class in (_Loader, _Dumper):
    _class.add_implicit_resolver("tag:yaml.org,2002:float", _EXPONENT, list("-+.0123456789"))


def _parse(text: str, where: str) -> tuple[Any, dict[str, str]]:
    """The value of a YAML text, and the text of each scalar in it by its dotted key."""
    loader = None
    try:
        loader = _Loader(text)  # refuses characters that YAML does not have
        node = loader.get_single_node()
        return (None, {}) if node is None else (loader.construct_document(node), _texts(node))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        location = f"{where}, line {mark.line + 1}" if mark else where
        raise UserError(f"{location}: {getattr(error, 'problem', None) or 'not valid YAML'}") from error
    finally:
        if loader is not None:
            loader.dispose()


def _parse_override(text: str) -> tuple[Any, dict[str, str]]:
    """The same of a value of the command line; one that is no YAML, such as *.mp4, is a text."""
    try:
        value, texts = _parse(text, "")
    except UserError:
        return text, {}
    return value, texts if value is not None else {"": text.strip()}


def _texts(node: yaml.Node, seen: set[int] | None = None) -> dict[str, str]:
    """The text of each scalar by its dotted key; what an alias repeats has none, as that may repeat without end."""
    seen = set() if seen is None else seen
    if id(node) in seen:
        return {}
    seen.add(id(node))
    if isinstance(node, yaml.ScalarNode):
        return {"": node.value}
    if isinstance(node, yaml.MappingNode):
        parts = [(key.value, value) for key, value in node.value]
    else:
        parts = [(str(number), value) for number, value in enumerate(node.value)]
    return {_dotted(part, name): text for part, value in parts for name, text in _texts(value, seen).items()}


def _dotted(*parts: str) -> str:
    return ".".join(filter(None, parts))


def _load(path: Path, parents: tuple[Path, ...]) -> Settings:
    if path.resolve() in parents:
        raise UserError(f"{path}: the files name each other as base in a circle; remove one base:")
    try:
        own, texts = _parse(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        by = f" (base of {parents[-1].name})" if parents else ""
        reason = getattr(error, "strerror", None) or "not a text file"
        raise UserError(f"cannot read the config {path}{by}: {reason}") from error
    own = {} if own is None else own
    if not isinstance(own, dict):
        raise UserError(f"{path}: the file must hold `key: value` lines")
    bases = own.pop("base", [])
    bases = [bases] if isinstance(bases, str) else bases
    if not isinstance(bases, list) or not all(isinstance(base, str) and "\0" not in base for base in bases):
        raise UserError(f"{path}: base must be a file or a list of files, not {bases}")
    settings = Settings({}, {})
    for base in bases:
        inherited = _load(path.parent / base, (*parents, path.resolve()))
        _merge(settings, inherited, settings.sources, inherited.sources)
        settings.texts |= inherited.texts
    _merge(settings, own, settings.sources, str(path))
    settings.texts |= texts
    return settings


def _merge(
    into: dict, new: Mapping, sources: dict[str, str], origin: str | Mapping[str, str], prefix: str = ""
) -> None:
    for key, value in new.items():
        name = f"{prefix}{key}"
        sources[name] = origin if isinstance(origin, str) else origin[name]
        if isinstance(value, Mapping):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            _merge(into[key], value, sources, origin, f"{name}.")
        else:
            into[key] = value


# ---- building


class _Builder:
    def __init__(self, sources: Mapping[str, str], texts: Mapping[str, str]) -> None:
        self.sources, self.texts = sources, texts

    def fail(self, key: str, problem: str) -> UserError:
        source = self.sources.get(key)
        while source is None and "." in key:
            key = key.rpartition(".")[0]
            source = self.sources.get(key)
        return UserError(f"{source}: {problem}" if source else problem)

    def dataclass(self, kind: type, values: Any, start: Any, key: str) -> Any:
        if not isinstance(values, Mapping):
            raise self.fail(key, f"{key} must hold `key: value` lines, not {values!r}")
        values, prefix = dict(values), f"{key}." if key else ""
        known = {field.name: field for field in fields(kind) if field.init}
        if "preset" in values and "preset" not in known:
            start = self.preset(kind, values, prefix)
        for name in values:
            if name not in known:
                error = self.fail(prefix + name, f"unknown key {prefix}{name}{nearest(name, known)}")
                raise UnknownKeyError(str(error), prefix + name)
        hints = get_type_hints(kind)
        arguments = {
            name: self.value(hints[name], value, _start(known[name], start), prefix + name)
            for name, value in values.items()
        }
        missing = [
            name for name, field in known.items() if start is None and name not in arguments and _required(field)
        ]
        if missing:
            raise self.fail(key, f"the key {prefix}{missing[0]} is missing")
        try:
            return kind(**arguments) if start is None else replace(start, **arguments)
        except ValueError as error:
            raise self.fail(prefix + next(iter(arguments), ""), f"{key + ': ' if key else ''}{error}") from error

    def preset(self, kind: type, values: dict[str, Any], prefix: str) -> Any:
        """The instance that `preset:` means; takes that key and the preset's own arguments out of `values`."""
        name, key = values.pop("preset"), f"{prefix}preset"
        choices = [n for n, member in vars(kind).items() if isinstance(member, classmethod) and not n.startswith("_")]
        if name not in choices:
            raise self.fail(key, f"{key} is {name}{nearest(str(name), choices)}")
        method, own = getattr(kind, name), {field.name for field in fields(kind)}
        arguments = {
            n: self.value(hint, values.pop(n), None, prefix + n)
            for n, hint in get_type_hints(method).items()
            if n in values and n not in own
        }
        try:
            return method(**arguments)
        except ValueError as error:
            raise self.fail(key, f"{key}: {error}") from error

    def value(self, kind: Any, value: Any, start: Any, key: str) -> Any:
        origin, arguments = get_origin(kind), get_args(kind)
        if kind is Any:
            return value
        if is_dataclass(kind):
            return self.dataclass(kind, value, start if isinstance(start, kind) else None, key)
        if origin in (Union, types.UnionType):
            return self.union(arguments, value, start, key)
        if origin is Literal:
            if value not in arguments:
                value = self.text(value, key)
            if value not in arguments:
                raise self.fail(key, f"{key} is {value!r}{nearest(str(value), map(str, arguments))}")
            return value
        if origin in (tuple, list) or kind in (tuple, list):
            return self.sequence(kind, value, key)
        if origin is dict or kind is dict:
            if not isinstance(value, Mapping):
                raise self.wrong(kind, value, key)
            return {
                name: self.value(arguments[1] if arguments else Any, v, None, f"{key}.{name}")
                for name, v in value.items()
            }
        return self.scalar(kind, value, key)

    def union(self, kinds: tuple, value: Any, start: Any, key: str) -> Any:
        if value is None and type(None) in kinds:
            return None
        kinds = tuple(kind for kind in kinds if kind is not type(None))
        same = [kind for kind in kinds if isinstance(kind, type) and type(value) is kind]
        errors = []
        for kind in same or kinds:
            try:
                return self.value(kind, value, start, key)
            except UserError as error:
                errors.append(error)
        raise errors[0] if len(errors) == 1 else self.wrong(Union[kinds], value, key)  # noqa: UP007 (a value)

    def sequence(self, kind: Any, value: Any, key: str) -> Any:
        origin, items = get_origin(kind) or kind, get_args(kind)
        if not isinstance(value, list | tuple):
            raise self.wrong(kind, value, key)
        if origin is list or not items or items[-1] is Ellipsis:
            kinds = [items[0] if items else Any] * len(value)
        elif len(items) != len(value):
            raise self.fail(key, f"{key} must be a list of {len(items)} values, not {len(value)}")
        else:
            kinds = list(items)
        return origin(self.value(k, v, None, f"{key}.{i}") for i, (k, v) in enumerate(zip(kinds, value)))

    def text(self, value: Any, key: str) -> Any:
        """How a number, a truth value or nothing was written, where that is known."""
        return self.texts.get(key, value) if value is None or isinstance(value, bool | int | float) else value

    def scalar(self, kind: Any, value: Any, key: str) -> Any:
        if kind in (str, Path):
            value = self.text(value, key)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        if kind is int and isinstance(value, float) and value.is_integer():
            return int(value)
        if kind is Path and isinstance(value, str):
            return Path(value)
        if isinstance(kind, type) and issubclass(kind, Enum) and value in [member.value for member in kind]:
            return kind(value)
        if type(value) is kind:
            return value
        raise self.wrong(kind, value, key)

    def wrong(self, kind: Any, value: Any, key: str) -> UserError:
        names = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Path: "a path"}
        return self.fail(key, f"{key} must be {names.get(kind, str(kind).replace('typing.', ''))}, not {value!r}")


def _start(field: Field, start: Any) -> Any:
    if start is not None:
        return getattr(start, field.name)
    if field.default is not MISSING:
        return field.default
    return field.default_factory() if field.default_factory is not MISSING else None


def _required(field: Field) -> bool:
    return field.default is MISSING and field.default_factory is MISSING
