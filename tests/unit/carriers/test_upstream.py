"""The lanes to the server: what transports cost, a proxy on the way, and what a plugin's mistake costs."""

from types import SimpleNamespace

import pytest

from lane.address import Address
from lane.carriers.upstream import UNKNOWN_COST, Upstream, cost, lead_through, make_paths
from lane.errors import Refused, Unreachable, UsageError
from lane.session.registry import Registry
from lane.via import Via

UPSTREAM = Upstream(Address("192.0.2.1", 4433), None, bytes(32))


def transport(name, dial=None, **more):
    return SimpleNamespace(name=name, dial=dial, **more)


@pytest.fixture
def registry():
    registry = Registry(1 << 20, 1 << 20, 60.0, 1, 1)
    yield registry
    registry.close()


def test_the_cheapest_lane_is_the_first(registry):
    dear, unknown, cheap = transport("dear", cost=9), transport("unknown"), transport("cheap", cost=1)
    assert cost(unknown) == UNKNOWN_COST
    paths = make_paths([dear, unknown, cheap], UPSTREAM, 1, registry)
    try:
        assert [lane["name"] for lane in paths.snapshot()["lanes"]] == ["cheap", "unknown", "dear"]
    finally:
        paths.close()


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (RuntimeError("boom"), Unreachable, "192.0.2.1:4433 over odd: RuntimeError: boom"),
        (Refused("no"), Refused, "no"),
    ],
)
def test_a_mistake_of_a_transport_is_a_server_that_is_not_reached(throttled, registry, error, kind, text):
    def dial(address, tls):
        raise error

    paths = make_paths([transport("odd", dial, cost=1)], UPSTREAM, 1, registry)
    try:
        with pytest.raises(kind) as caught:
            next(iter(paths.lanes.lanes.values())).pool.lease()
        assert str(caught.value) == text
    finally:
        paths.close()


def test_what_can_dial_through_a_proxy_does():
    via = Via.parse("socks5://127.0.0.1:9050")
    over_tcp, other = transport("tcp", connect=None, listen=None), transport("udp")
    assert lead_through(None, [over_tcp, other]) == [over_tcp, other]
    assert lead_through(via, [over_tcp, other]) == [over_tcp]
    assert over_tcp.connect == via.connect
    with pytest.raises(UsageError, match="udp does not run over TCP"):
        lead_through(via, [other])
