"""The two ways to seal and open common QUIC packets: in Python, and compiled where that was built."""

import os

import pytest
from lane_quic.engine import keys
from lane_quic.fastpath import protection

WAYS = ("portable", "compiled")


def need_compiled():
    """Skip a test where native.c was not built; where LANE_TEST_REQUIRE names `compiled`, let it fail."""
    if protection.native is None and "compiled" not in os.environ.get("LANE_TEST_REQUIRE", "").split(","):
        pytest.skip("native.c was not built")
    assert protection.native is not None


def use(patch, way):
    """Let connections of `patch`'s test use one of `WAYS`, from their first packet on."""
    patch.setattr(keys, "BRIEF", 0)
    if way == "compiled":
        need_compiled()
    else:
        patch.setattr(protection, "native", None)
