"""The view of a running lane (`lane.look`) as JSON, for web pages and programs."""

import json
from collections.abc import Callable, Mapping
from http import HTTPStatus
from math import isfinite
from typing import Any

from lane.admin.web import Refusal, Request, Response, Route, Routes


def view_routes(tell: Callable[[float], Mapping[str, Any]]) -> Routes:
    """The path of the view. It needs the secret if there is one: only this machine reaches ports without."""

    def view(request: Request) -> Response:
        body = json.dumps(tell(_since(request)), allow_nan=False)
        return Response(body.encode(), kind="application/json")

    return {("GET", "/api/view"): Route(view, secret=None)}


def _since(request: Request) -> float:
    try:
        since = float(request.query.get("since", "0"))
    except ValueError:
        since = float("nan")
    if not isfinite(since):
        raise Refusal(HTTPStatus.BAD_REQUEST, "since: expected a number of seconds since the epoch")
    return since
