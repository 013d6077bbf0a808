import pytest

from modules.rig.config import RigConfig


@pytest.mark.parametrize("name, value", [("cells", 4), ("margin", 0.9), ("geometry", 8)])
def test_values_out_of_range_are_refused_with_the_number(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        RigConfig(**{name: value})
