"""What the admin port of a client answers."""

from collections.abc import Callable, Mapping
from time import time
from typing import Any

from lane.admin.exposition import CONTENT_TYPE, render
from lane.admin.families import CLIENT
from lane.admin.process import describe, identify
from lane.admin.state import State
from lane.admin.web import Request, Response, Route, Routes
from lane.server.numbers import Histogram
from lane.session.registry import Registry

_OF_LANES = {
    "lane_path_up": "alive",
    "lane_path_carries": "carries",
    "lane_path_round_trip_seconds": "rtt",
    "lane_path_loss_ratio": "loss",
    "lane_path_goodput_bytes": "goodput",
}
"""Metrics that the snapshot of `lane.control` has for each lane, by their names there."""


class ClientAdmin:
    """The answers of a client. `snapshot`: that of `lane.control`. `lag`: that of the event loop."""

    def __init__(self, snapshot: Callable[[], Mapping[str, Any]], registry: Registry, lag: Histogram) -> None:
        self._snapshot = snapshot
        self._registry = registry
        self._lag = lag
        self._since = int(time())

    @property
    def routes(self) -> Routes:
        """All paths."""
        return {("GET", "/metrics"): Route(self._metrics, secret=None)}

    def _metrics(self, request: Request) -> Response:
        state, now = State(), self._snapshot()
        describe(state, self._registry, self._lag, "1")
        identify(state, self._since)
        state.gauge("lane_outage", float(now["outage"] is not None))
        for lane in now["lanes"]:
            for name, known in _OF_LANES.items():
                if lane[known] is not None:
                    state.gauge(name, float(lane[known]), lane["name"])
        return Response(render(state, CLIENT), kind=CONTENT_TYPE)
