"""An import that is put off: nothing runs before the first use, and then everything is there."""

import sys

import pytest
from lane_quic.internals.deferred import defer


def test_a_deferred_module_runs_at_its_first_use(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "lane_test_deferred.py").write_text("import sys\nsys.lane_test_ran = True\nvalue = 7\n")
    defer("lane_test_deferred")
    try:
        import lane_test_deferred

        assert not hasattr(sys, "lane_test_ran")
        assert lane_test_deferred.value == 7
        defer("lane_test_deferred")  # it is loaded, and stays
        assert sys.modules["lane_test_deferred"].value == 7
        assert sys.lane_test_ran
    finally:
        sys.modules.pop("lane_test_deferred", None)
        vars(sys).pop("lane_test_ran", None)


def test_a_module_that_is_not_there_fails_at_its_first_use():
    defer("lane_test_no_such_module")
    import lane_test_no_such_module

    with pytest.raises(ModuleNotFoundError):
        _ = lane_test_no_such_module.value
    assert "lane_test_no_such_module" not in sys.modules
