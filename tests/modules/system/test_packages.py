import sys

import pytest

from modules.system.errors import UserError
from modules.system.packages import check_package, is_installed, optional_package


def test_a_package_that_is_here_is_imported():
    assert optional_package("math", "counting", "use fingers").floor(2.5) == 2
    assert is_installed("numpy") and not is_installed("no_such_package")


def test_a_missing_package_is_one_line_with_both_ways_out(monkeypatch):
    monkeypatch.setitem(sys.modules, "absent", None)
    line = "this needs the package absent; pip install -c constraints.txt -r requirements-other.txt, or do that"
    for ask in (optional_package, check_package):
        with pytest.raises(UserError) as caught:
            ask("absent", "this", "do that", "requirements-other.txt")
        assert str(caught.value) == line


def test_a_package_is_looked_for_without_an_import(monkeypatch):
    monkeypatch.delitem(sys.modules, "wave", raising=False)
    check_package("wave", "this", "do that")
    assert "wave" not in sys.modules
