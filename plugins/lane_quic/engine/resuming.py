"""Telling the congestion controller what is known of the path, and sending scouts for it.

The first data of a connection are often few: a request, a reply. So packets without data go with them, as
many as make up an initial window. When a download begins, the path has been looked at already
(congestion/careful_resume.py). They cost 12 KB, and only where something is known of the path.
"""

from collections.abc import Callable
from typing import Any

from aioquic.quic.packet_builder import QuicDeliveryState

from lane.net.path_memory import KnownPath
from lane_quic.congestion.careful_resume import SCOUT_SIZE, CarefulResume, Resumes
from lane_quic.engine.tail_repeat import TailRepeat


class Resuming(TailRepeat):
    """A connection whose controller knows the path to each address, if `known_path` was set."""

    __slots__ = ("_resume", "known_path")

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.known_path: Callable[[Any], KnownPath] | None = None
        """Returns what is known of the path to an address of the peer."""
        self._resume: CarefulResume | None = None

    def _recall(self) -> None:
        """Tell the controller, which is new, about the path in use."""
        controller = self.loss.controller
        if self.known_path is not None and isinstance(controller, Resumes):
            self._resume = controller.resume(self.known_path(self.network_paths[0].addr))

    def _scout(self, now: float) -> list[tuple[bytes, Any]]:
        """The scouts that are due."""
        resume = self._resume
        if resume is None or not self.network_paths[0].is_validated:
            return []
        count = resume.scouts
        if count or resume.needs_no_scouts:
            self._resume = None  # they are sent once

        def on_fate(delivery: Any) -> None:
            resume.on_scout(arrived=delivery is QuicDeliveryState.ACKED)

        return [packet for _ in range(count) for packet in self._size_probe(SCOUT_SIZE, now, on_fate)]
