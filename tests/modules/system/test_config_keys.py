from dataclasses import dataclass, field
from typing import Literal

import pytest

from modules.system.config_keys import key_names, keys_of, meanings_of, table_of_keys, type_in_words
from tasks.engine.settings import keys_in_words, read_settings
from tests.conftest import ROOT


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A group.

    Attributes:
        width, height: sides in pixels.
    """

    width: int = 4
    height: int = 5
    kind: Literal["a", "b"] = "a"  # which one

    def __post_init__(self) -> None:
        self.unused: int  # no field


@dataclass(frozen=True, kw_only=True)
class Outer:
    inner: Inner = field(default_factory=Inner)
    limit: float | None = None  # null: none
    names: tuple[str, ...] = ()


def test_keys_have_name_type_value_and_meaning():
    keys = {key.name: key for key in keys_of(Outer(limit=2.0))}
    assert list(keys) == list(name for name in key_names(Outer) if name != "inner")
    assert (keys["limit"].type, keys["limit"].value, keys["limit"].meaning) == ("float or null", 2.0, "null: none")
    assert keys["inner.width"].meaning == keys["inner.height"].meaning == "sides in pixels."
    assert (keys["inner.kind"].type, keys["inner.kind"].meaning) == ("a|b", "which one")
    assert type_in_words(tuple[str, ...]) == "list of text" and type_in_words(dict[str, float]) == "float by name"
    assert meanings_of(Outer) == {"limit": "null: none"}


def test_the_table_has_a_line_for_each_key():
    lines = table_of_keys(keys_of(Outer())).splitlines()
    assert lines[0].split() == ["inner.width", "4", "int", "sides", "in", "pixels."]
    assert lines[-1] == "names         []    list of text" and len(lines) == 5


@pytest.mark.parametrize("name", ["i2p", "motion_adapter", "htbsr", "syncnet", "a2m", "demo/htbsr"])
def test_every_key_of_a_stage_is_explained(name: str):
    keys = keys_in_words(read_settings(ROOT / "configs" / f"{name}.yaml"))
    assert len({key.name for key in keys}) == len(keys) > 30
    networks = ("model.", "adversary.discriminator")  # their modules explain themselves
    silent = [key.name for key in keys if not key.meaning and not key.name.startswith(networks)]
    assert silent == []
