"""Things on a shelf: found by their names alone, put away once."""

import pytest

pytest.importorskip("starlette", reason="pip install -c constraints.txt -r requirements-serve.txt")

from inference.web.refusals import Refusal
from inference.web.shelf import Shelf


def test_names_are_ours_and_find_their_thing():
    shelf = Shelf("portrait", 100, 10.0)
    names = [shelf.add(number) for number in range(100)]
    assert len(set(names)) == 100 and all(len(name) >= 20 for name in names)
    assert [shelf.get(name) for name in names] == list(range(100)) == list(shelf)
    for wrong in ("", "..", "x/y", names[0][:-1]):
        with pytest.raises(Refusal, match="no such portrait") as refusal:
            shelf.get(wrong)
        assert refusal.value.status == 404


def test_what_is_idle_or_dropped_is_put_away_once_and_what_is_used_stays():
    now, away = [0.0], []
    shelf = Shelf("clip", 2, 10.0, away.append, lambda: now[0])
    first, second = shelf.add("a"), shelf.add("b")
    with pytest.raises(Refusal, match="holds 2 clips") as refusal:
        shelf.add("c")
    assert refusal.value.status == 503 and away == ["c"]
    now[0] = 8.0
    shelf.get(first)
    now[0] = 12.0
    third = shelf.add("d")  # in the place of b, which was idle
    assert away == ["c", "b"] and shelf.get(first) == "a"
    shelf.drop(third)
    shelf.clear()
    assert away == ["c", "b", "d", "a"] and len(shelf) == 0
    with pytest.raises(Refusal):
        shelf.drop(second)
