"""A race between pools: a session gets the first stream, and does not wait for a lane that hangs."""

from collections.abc import Sequence
from typing import Any

import gevent
from gevent.queue import Empty, Queue

from lane.carriers.lease import Lease
from lane.carriers.pool import Pool
from lane.errors import Failure, LaneError
from lane.tasks import start

HEAD_START = 0.25
"""Seconds that a pool has to give a stream before the next pool is asked too."""

Results = Any
"""A Queue of tuples: the number of a pool, and its Lease or Failure."""


def race(pools: Sequence[Pool], *, fresh: bool, head_start: float | None = None) -> tuple[int, Lease]:
    """The number of the first pool that gave a stream, and the stream, on a new carrier if `fresh`.

    Each pool has `head_start` seconds before the next one starts (None: HEAD_START). If it fails, the next
    one starts at once. Late streams are given back. If all pools fail, raises the first LaneError.
    """
    if not fresh and (lease := pools[0].lease_at_once()) is not None:
        return 0, lease
    if len(pools) == 1:
        return 0, pools[0].lease(fresh=fresh)
    head_start = HEAD_START if head_start is None else head_start
    results: Queue[tuple[int, Lease | Failure[LaneError]]] = Queue()
    asked: list[gevent.Greenlet[..., None]] = []
    failures: list[Failure[LaneError]] = []
    try:
        while len(failures) < len(pools):
            if len(asked) == len(failures):
                asked.append(gevent.spawn(_ask, len(asked), pools[len(asked)], fresh, results))
            try:
                # no limit: for the last one; a pool gives a stream, or fails, within its dial timeout
                number, result = results.get(timeout=head_start if len(asked) < len(pools) else None)
            except Empty:
                asked.append(gevent.spawn(_ask, len(asked), pools[len(asked)], fresh, results))
                continue
            if isinstance(result, Lease):
                return number, result
            failures.append(result)
        raise failures[0].build()
    finally:
        start(_give_back, asked, results)


def _ask(number: int, pool: Pool, fresh: bool, results: Results) -> None:
    try:
        results.put((number, pool.lease(fresh=fresh)))
    except LaneError as error:
        results.put((number, Failure.of(error)))


def _give_back(asked: list[Any], results: Results) -> None:
    """Give late streams back. Their carriers are of use for the next session."""
    gevent.joinall(asked)  # no limit: each ends within the dial timeout of its pool
    while not results.empty():
        _, result = results.get_nowait()
        if isinstance(result, Lease):
            result.discard()
