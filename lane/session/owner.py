"""The interface between a session and its owner."""

from collections.abc import Callable

from lane.session.byte_queue import Buffer
from lane.session.flows import Flows
from lane.users.gate import OPEN, Gates


class Owner:
    """The owner of a session, which calls these methods. None may block. This one ignores all calls."""

    gates: Gates = OPEN
    """Those of the session's user, at a server: all bytes pass them."""

    def readable(self) -> None:
        """`recv` may return or raise at once."""

    def offer(self, data: Buffer) -> int:
        """Take received bytes at once, if that needs no wait. Returns their number, from the first on.

        They count as consumed. `data` is invalid as soon as another greenlet has run.
        """
        return 0

    def broken(self) -> None:
        """The session broke. Wake greenlets that wait elsewhere, for no reader may notice."""

    def carrier_changed(self, flows: Callable[[], Flows | None]) -> None:
        """Another stream carries the session. `flows` looks up the datagrams of its carrier."""
