"""Whoever a session belongs to: what a session tells it, and asks of it."""

from collections.abc import Callable

from lane.session.byte_queue import Buffer
from lane.session.flows import Flows


class Owner:
    """One that waits in the session's own calls, and wants to know nothing. No method may block."""

    def readable(self) -> None:
        """There may be something to receive, or an error."""

    def offer(self, data: Buffer) -> int:
        """Received bytes, which it may take at once, without waiting: how many, from the first on.

        `data` is gone as soon as another greenlet has run. What is taken counts as consumed.
        """
        return 0

    def broken(self) -> None:
        """The session broke, and no reader may notice: wake whoever waits beside it."""

    def carrier_changed(self, flows: Callable[[], Flows | None]) -> None:
        """Another stream carries the session. `flows` looks up the datagrams of its carrier."""
