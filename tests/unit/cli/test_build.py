import sys

import pytest

from lane.cli import build


@pytest.mark.parametrize(
    ("modules", "expected"),
    [(["json"], "compiled"), (["json", "json.missing"], "portable"), (["json.missing"], "portable")],
)
def test_a_build_is_compiled_if_all_that_may_be_is(monkeypatch, modules, expected):
    monkeypatch.setattr(build, "MODULES", modules)
    assert build.build() == expected


def test_a_module_that_does_not_load_is_not_there(monkeypatch):
    for name in build.MODULES:
        monkeypatch.setitem(sys.modules, name, None)
    assert build.build() == "portable"
