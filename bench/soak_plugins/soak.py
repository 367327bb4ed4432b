"""A plugin for bench/soak.py: it implements every hook, moves sessions all the time, and counts objects.

It counts all objects by type from time to time. The types that grow show which table grows.
"""

import gc
import json
import time
from collections import Counter

import gevent

from lane import census, hookimpl

PERIOD = 15
"""Seconds between two counts of all objects."""
COMMON = 400
"""The number of types that are reported."""


class Sessions:
    """The sessions that have started and not ended, as reported to the hooks."""

    def __init__(self):
        self.running = set()
        census.register(self)

    def census(self):
        return {"observed": len(self.running)}


_sessions = Sessions()
_options = None


@hookimpl
def lane_add_options(group):
    group.add_argument("--soak-move-every", metavar="SECS", default="0", help="have the lanes take turns")
    group.add_argument("--soak-types", metavar="FILE", default="", help="where to count objects by type")


@hookimpl
def lane_configure(options):
    global _options
    _options = float(options.soak_move_every), options.soak_types
    if options.soak_types:
        gevent.spawn(_count_types, options.soak_types)


@hookimpl
def lane_choose(now, lanes, choice):
    every, _ = _options
    able = sorted(lane.name for lane in lanes if lane.alive and lane.silent < 1)
    if not every or len(able) < len(lanes):
        return None
    return able[int(now / every) % len(able)], "it has its turn"


@hookimpl
def lane_route(target):
    return None


@hookimpl
def lane_authorize(request, identity):
    return None


@hookimpl
def lane_session_started(session, target, identity):
    _sessions.running.add(session)


@hookimpl
def lane_session_ended(session, sent, received, error):
    _sessions.running.discard(session)


def _count_types(file):
    while True:
        gevent.sleep(PERIOD)
        counts = Counter(type(one).__qualname__ for one in gc.get_objects())
        with open(file, "a") as out:
            out.write(json.dumps([time.monotonic(), dict(counts.most_common(COMMON))]) + "\n")
