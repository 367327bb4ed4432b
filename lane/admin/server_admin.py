"""What the admin port of a server answers. Each of its workers answers for all of them."""

from lane.admin.everyone import Everyone
from lane.admin.exposition import CONTENT_TYPE, render
from lane.admin.families import SERVER
from lane.admin.process import identify
from lane.admin.web import Request, Response, Route, Routes
from lane.tally import PID, RESTARTS, SINCE, Tally


class ServerAdmin:
    """The answers of one worker. `tally` has the processes."""

    def __init__(self, everyone: Everyone, tally: Tally) -> None:
        self._everyone = everyone
        self._tally = tally
        self._since = min(tally.get(worker, SINCE) for worker in range(tally.workers))

    @property
    def routes(self) -> Routes:
        """All paths."""
        return {("GET", "/metrics"): Route(self._metrics, secret=None)}

    def _metrics(self, request: Request) -> Response:
        state, tally = self._everyone.total(), self._tally
        identify(state, self._since)
        state.gauge("lane_workers", sum(bool(tally.get(one, PID)) for one in range(tally.workers)))
        state.count("lane_worker_restarts", {(): tally.total(RESTARTS)})
        return Response(render(state, SERVER), kind=CONTENT_TYPE)
