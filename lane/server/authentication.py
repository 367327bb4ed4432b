"""Who a client is: its HELLO proves a key, and a hook says which user's.

An invalid HELLO gets a plain close, whatever is wrong with it, and never before as many bytes have arrived as
the shortest HELLO has. So a stranger learns nothing.
"""

from collections.abc import Callable
from typing import Any

from lane.deadline import deadline
from lane.errors import Closed, ProtocolError
from lane.net.guesses import Guesses
from lane.proto.hello import device_of, parse_hello
from lane.server.messages import MessageReader
from lane.stream import Carrier


class Authentication:
    """Authenticates clients with `hook`, pluggy's caller. `speaks` is called once a client says something."""

    def __init__(self, hook: Any, speaks: Callable[[Carrier], None]) -> None:
        self._hook = hook
        self._speaks = speaks
        self._guesses = Guesses("key")

    def greet(
        self, carrier: Carrier, reader: MessageReader, within: float
    ) -> tuple[str | None, bytes, bytes]:
        """Read HELLO, which has `within` seconds. Returns the user whose key it proves, or None, the token
        that is the proof, and the device if it is named. Raises Closed.
        """
        try:
            with deadline(within, _no_hello):
                if reader.begin():
                    self._speaks(carrier)
                token, end = reader.parse(parse_hello)
                user = self.user_of(carrier, token)
                return user, token, b"" if user is None else device_of(reader.take(end))
        except ProtocolError:
            return None, b"", b""

    def user_of(self, carrier: Carrier, token: bytes) -> str | None:
        """The user whose key `token` proves now; None if there is none."""
        user = self._hook.lane_authenticate(token=token, binding=carrier.binding, peer=carrier.peer)
        if user is not None and not isinstance(user, str):
            raise TypeError(f"lane_authenticate of a plugin names a user {user!r}")
        return user

    def pause(self, carrier: Carrier) -> None:
        """Let who sent an invalid HELLO wait: the same for each kind of it, and longer each time.

        A valid key never waits: nobody guesses 256 bits.
        """
        self._guesses.pause(carrier.peer, self._guesses.wrong(carrier.peer))


def _no_hello() -> Closed:
    return Closed("no HELLO in time")
