"""What the client and the server share as services."""

from types import SimpleNamespace

from lane.cli.service import for_auto


def test_a_transport_that_does_not_tell_its_cost_is_not_tried_by_itself():
    dear, unknown, cheap = SimpleNamespace(cost=9), SimpleNamespace(), SimpleNamespace(cost=1)
    assert for_auto([dear, unknown, cheap]) == [dear, cheap]
