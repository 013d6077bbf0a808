from pathlib import Path

import pytest

from modules.rig.config import RigConfig, draws_by_rig, read_rig_config
from modules.system.errors import UserError


@pytest.mark.parametrize("name, value", [("cells", 4), ("margin", 0.9), ("geometry", 8)])
def test_values_out_of_range_are_refused_with_the_number(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        RigConfig(**{name: value})


def test_a_checkpoint_may_have_settings_of_its_own(tmp_path: Path):
    assert not draws_by_rig(tmp_path) and read_rig_config(tmp_path) == RigConfig()
    (tmp_path / "rig").mkdir()
    path = tmp_path / "rig" / "config.yaml"
    path.write_text("sway: 0.5\n")
    assert draws_by_rig(tmp_path) and read_rig_config(tmp_path) == RigConfig(sway=0.5)
    path.write_text("cells: 4\n")
    with pytest.raises(UserError, match=rf"{path}: .*cells is 4"):
        read_rig_config(tmp_path)
