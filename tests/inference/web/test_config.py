"""Limits that cannot be are refused by name."""

import pytest

from inference.web.config import ServerLimits


@pytest.mark.parametrize("name, value", [("photo_bytes", 0), ("sessions", -1), ("idle_seconds", float("inf"))])
def test_a_limit_must_be_positive(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        ServerLimits(**{name: value})
    assert ServerLimits(look_ahead=0).look_ahead == 0
