"""Freeing the memory of a handshake once it is done.

aioquic keeps all of it: discarded keys, packet number spaces and streams that receive nothing more, and the
TLS state with the ClientHello, the key schedule and the offered parameters. A server has many idle
connections, some of them with unauthenticated peers that have done no more than a handshake.
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
    """A queue of a few items. An empty deque takes 760 bytes, and aioquic has several of them."""

    __slots__ = ()

    def popleft(self) -> Any:
        """Remove and return the oldest item. Raises IndexError if there is none, as a deque does."""
        return self.pop(0)


class PathChallenges(ShortQueue):
    """The newest challenges sent on a path."""

    __slots__ = ()

    def append(self, challenge: bytes) -> None:
        """Add a challenge. A full queue drops its oldest one."""
        super().append(challenge)
        del self[:-MAX_LOCAL_CHALLENGES]


class HandshakeMemory(PeerLimits):
    """A connection that frees its handshake state on a server. A client has few connections and keeps it."""

    __slots__ = ()

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.events: ShortQueue = ShortQueue()

    def take_events(self) -> list[Any]:
        """The events since the last call."""
        events = self.events
        if events:
            self.events = ShortQueue()
        return events

    def write_handshake_done_frame(self, builder: Any) -> None:
        """Write the last frame of the handshake, and free its state: no handshake packet is in use now."""
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
