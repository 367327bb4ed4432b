"""A download without lane, to compare with."""

import http.client
import socket
import ssl
from time import monotonic
from typing import NamedTuple
from urllib.parse import urlsplit

from lane.carriers.measuring import WARM, Delays, Progress
from lane.errors import UsageError

TRIES = 5
"""Connections whose time is measured."""
PATIENCE = 10.0
"""Seconds without a byte after which it has failed."""


class Download(NamedTuple):
    """What a target delivers."""

    rate: float
    """Bytes a second."""
    delays: Delays
    """The times that a connection took."""


def download(url: str, seconds: float, progress: Progress) -> Download:
    """Download `url` for `seconds`, or to its end. Raises OSError or UsageError. Blocks the process."""
    parts = urlsplit(url)
    delays, port = Delays(), parts.port or {"http": 80, "https": 443}[parts.scheme]
    for _ in range(TRIES):
        began = monotonic()
        socket.create_connection((parts.hostname or "", port), PATIENCE).close()
        delays.trips.append(monotonic() - began)
    connection = http.client.HTTPConnection(parts.hostname or "", port, timeout=PATIENCE)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection = http.client.HTTPSConnection(
            parts.hostname or "", port, timeout=PATIENCE, context=context
        )
    try:
        connection.request("GET", f"{parts.path or '/'}{'?' if parts.query else ''}{parts.query}")
        answer = connection.getresponse()
        if answer.status != 200:
            raise UsageError(f"answers with status {answer.status}, and a download needs 200")
        return Download(_rate(answer, seconds, progress), delays)
    except http.client.HTTPException as error:
        raise UsageError(f"is no download: {error!r}") from None
    finally:
        connection.close()


def _rate(answer: http.client.HTTPResponse, seconds: float, progress: Progress) -> float:
    began = told = monotonic()
    warm: tuple[float, int] | None = None
    size, now = 0, began
    while now - began < seconds and (data := answer.read1(1 << 18)):
        size, now = size + len(data), monotonic()
        if warm is None and now - began >= min(WARM, seconds / 4):
            warm = now, size
        if now - told >= 0.1:
            told = now
            progress((now - began) / seconds, size / (now - began))
    since, before = warm or (began, 0)
    return (size - before) / (now - since) if now > since else 0.0
