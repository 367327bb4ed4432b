"""What a connection keeps of its handshake once that is over: next to nothing.

aioquic keeps all of it: keys that were torn down, packet number spaces and streams that nothing comes for
any more, and TLS with the client's hello, its key schedule and what it could have agreed to. A server has
many connections that are idle, and some with strangers, who have no more to show than a handshake.
"""

from typing import Any

from aioquic.quic.connection import MAX_LOCAL_CHALLENGES
from aioquic.quic.crypto import CryptoPair
from aioquic.quic.packet import QuicProtocolVersion
from aioquic.quic.recovery import QuicPacketSpace
from aioquic.tls import Epoch

from lane_quic.engine.peer_limits import PeerLimits
from lane_quic.internals.parts import FinishedTLS

_NO_KEYS = CryptoPair()
_NO_INITIAL_KEYS = dict.fromkeys(map(int, QuicProtocolVersion), _NO_KEYS)
_NO_SPACE = QuicPacketSpace()
_NO_SPACE.discarded = True


class ShortQueue(list[Any]):
    """A queue of a few. An empty deque takes 760 bytes, and aioquic has several."""

    __slots__ = ()

    def popleft(self) -> Any:
        """Take the oldest; as a deque does, it raises IndexError where there is none."""
        return self.pop(0)


class PathChallenges(ShortQueue):
    """The last challenges that were sent on a path."""

    __slots__ = ()

    def append(self, challenge: bytes) -> None:
        """Add one, at the expense of the oldest."""
        super().append(challenge)
        del self[:-MAX_LOCAL_CHALLENGES]


class HandshakeMemory(PeerLimits):
    """A connection whose server forgets the handshake. A client has few connections, and keeps it."""

    __slots__ = ()

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.events: ShortQueue = ShortQueue()

    def take_events(self) -> list[Any]:
        """What happened since the last call."""
        events = self.events
        if events:
            self.events = ShortQueue()
        return events

    def write_handshake_done_frame(self, builder: Any) -> None:
        """What is last to be said of the handshake. No packet of it is being read or written then."""
        super().write_handshake_done_frame(builder)
        keys, space = self.cryptos[Epoch.ONE_RTT], self.spaces[Epoch.ONE_RTT]
        self.cryptos = {**dict.fromkeys(Epoch, _NO_KEYS), Epoch.ONE_RTT: keys}
        self.cryptos_initial = _NO_INITIAL_KEYS
        self.spaces = {**dict.fromkeys(Epoch, _NO_SPACE), Epoch.ONE_RTT: space}
        self.loss.spaces = [space]
        self.crypto_streams = {Epoch.ONE_RTT: self.crypto_streams[Epoch.ONE_RTT]}
        for path in self.network_paths:
            path.local_challenges = PathChallenges(path.local_challenges)  # type: ignore[assignment]
            path.remote_challenges = ShortQueue(path.remote_challenges)  # type: ignore[assignment]
        self.tls = FinishedTLS(self.tls)
