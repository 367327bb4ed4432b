"""Whether a process lives, and whether it takes sessions: for service managers and load balancers."""

from collections.abc import Callable
from http import HTTPStatus

from lane.admin.web import Request, Response, Route, Routes


class Health:
    """Answers /healthz and /readyz. `stopping()`: whether all of lane ends, and not only this process."""

    def __init__(self, stopping: Callable[[], bool] = lambda: False) -> None:
        self.draining = False
        """Whether this process takes no more sessions, since it ends."""
        self._stopping = stopping

    @property
    def routes(self) -> Routes:
        """Without a secret, since they say nothing else."""
        return {
            ("GET", "/healthz"): Route(self._lives, secret=False),
            ("GET", "/readyz"): Route(self._is_ready, secret=False),
        }

    def _lives(self, request: Request) -> Response:
        return Response(b"ok\n")

    def _is_ready(self, request: Request) -> Response:
        if self.draining or self._stopping():
            return Response(b"stopping\n", HTTPStatus.SERVICE_UNAVAILABLE)
        return Response(b"ready\n")
