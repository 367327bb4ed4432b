"""What every process of lane says of itself."""

import time

from lane import __version__
from lane.admin.state import State
from lane.heap import resident
from lane.server.numbers import Histogram
from lane.session.registry import Registry


def describe(state: State, registry: Registry, lag: Histogram, worker: str) -> None:
    """Add the numbers of this process to `state`: most of `lane.admin.families.COMMON`."""
    state.gauge("lane_sessions", len(registry))
    state.gauge("lane_memory_resident_bytes", resident(), worker)
    state.gauge("lane_buffer_bytes", registry.budget.used, "used")
    state.gauge("lane_buffer_bytes", registry.budget.total, "limit")
    state.count("lane_cpu_seconds", {(): time.process_time()})
    state.histogram("lane_loop_lag_seconds", {(): lag})


def identify(state: State, since: float) -> None:
    """Add what is the same for all processes. `since`: when the first one started."""
    state.gauge("lane_info", 1, __version__)
    state.gauge("lane_start_time_seconds", since)
