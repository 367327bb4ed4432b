"""The ways to seal and open QUIC packets and TLS records: in Python, and compiled where that was built."""

import os

import pytest
from lane_quic.engine import keys
from lane_quic.fastpath import protection as packets
from lane_tls import portable
from lane_tls import protection as records

WAYS = ("portable", "compiled")


def need_compiled(native):
    """Skip a test where `native` was not built; where LANE_TEST_REQUIRE names `compiled`, let it fail."""
    if native is None and "compiled" not in os.environ.get("LANE_TEST_REQUIRE", "").split(","):
        pytest.skip("native.c was not built")
    assert native is not None


def use(patch, way):
    """Let connections of `patch`'s test use one of `WAYS`, QUIC from its first packet on."""
    patch.setattr(keys, "BRIEF", 0)
    if way == "compiled":
        need_compiled(packets.native)
        need_compiled(records.native)
    else:
        patch.setattr(packets, "native", None)
        patch.setattr(records, "many", portable)
