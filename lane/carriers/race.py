"""A stream from the first of several pools that gives one: who asks need not wait for a lane that hangs."""

from collections.abc import Sequence
from typing import Any

import gevent
from gevent.queue import Empty, Queue

from lane.carriers.lease import Lease
from lane.carriers.pool import Pool
from lane.errors import Failure, LaneError
from lane.tasks import start

HEAD_START = 0.25
"""Seconds that a pool has to give a stream before the next one is asked as well."""

Results = Any
"""A Queue of numbers of pools, each with the Lease that it gave or the Failure that it ended with."""


def race(pools: Sequence[Pool], *, fresh: bool, head_start: float | None = None) -> tuple[int, Lease]:
    """The number of the pool that was first, and its stream, on a new carrier if `fresh`.

    Each has a head start before the next one, HEAD_START if None is given; one that fails ends its own. What
    comes too late is given back. Raises the LaneError of the one that failed first where all do.
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
    """What came too late is of use for the next session."""
    gevent.joinall(asked)  # no limit: each ends within the dial timeout of its pool
    while not results.empty():
        _, result = results.get_nowait()
        if isinstance(result, Lease):
            result.discard()
