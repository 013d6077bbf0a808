import sys

import pytest

from modules.system.errors import UserError
from modules.system.packages import is_installed, optional_package


def test_a_package_that_is_here_is_imported():
    assert optional_package("math", "counting", "use fingers").floor(2.5) == 2
    assert is_installed("numpy") and not is_installed("no_such_package")


def test_a_missing_package_is_one_line_with_both_ways_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "absent", None)
    with pytest.raises(UserError) as caught:
        optional_package("absent", "this", "do that", "requirements-other.txt")
    line = "this needs the package absent; pip install -c constraints.txt -r requirements-other.txt, or do that"
    assert str(caught.value) == line
