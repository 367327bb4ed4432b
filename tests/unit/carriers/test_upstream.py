"""The lanes to the server: what transports cost, a proxy on the way, and what a plugin's mistake costs."""

from types import SimpleNamespace

import pytest

from lane.address import Address
from lane.carriers.upstream import UNKNOWN_COST, Upstream, cost, for_auto, lead_through, make_lanes
from lane.errors import Refused, Unreachable, UsageError
from lane.via import Via

UPSTREAM = Upstream(Address("192.0.2.1", 4433), None, bytes(32))


def transport(name, dial=None, **more):
    return SimpleNamespace(name=name, dial=dial, **more)


def test_the_cheapest_lane_is_the_first_and_what_does_not_tell_is_not_tried_by_itself():
    dear, unknown, cheap = transport("dear", cost=9), transport("unknown"), transport("cheap", cost=1)
    assert for_auto([dear, unknown, cheap]) == [dear, cheap]
    assert cost(unknown) == UNKNOWN_COST
    lanes = make_lanes([dear, unknown, cheap], UPSTREAM, 1)
    try:
        assert [lane["name"] for lane in lanes.snapshot()["lanes"]] == ["cheap", "unknown", "dear"]
    finally:
        lanes.close()


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (RuntimeError("boom"), Unreachable, "192.0.2.1:4433 over odd: RuntimeError: boom"),
        (Refused("no"), Refused, "no"),
    ],
)
def test_a_mistake_of_a_transport_is_a_server_that_is_not_reached(throttled, error, kind, text):
    def dial(address, tls):
        raise error

    lanes = make_lanes([transport("odd", dial, cost=1)], UPSTREAM, 1)
    try:
        with pytest.raises(kind) as caught:
            next(iter(lanes.lanes.values())).pool.lease()
        assert str(caught.value) == text
    finally:
        lanes.close()


def test_what_can_dial_through_a_proxy_does():
    via = Via.parse("socks5://127.0.0.1:9050")
    over_tcp, other = transport("tcp", connect=None, listen=None), transport("udp")
    assert lead_through(None, [over_tcp, other]) == [over_tcp, other]
    assert lead_through(via, [over_tcp, other]) == [over_tcp]
    assert over_tcp.connect == via.connect
    with pytest.raises(UsageError, match="udp does not run over TCP"):
        lead_through(via, [other])
