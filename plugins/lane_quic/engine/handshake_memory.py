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
from aioquic.tls import Context, Epoch

from lane_quic.engine.peer_limits import Guarded

_NO_KEYS = CryptoPair()
_NO_INITIAL_KEYS = dict.fromkeys(map(int, QuicProtocolVersion), _NO_KEYS)
_NO_SPACE = QuicPacketSpace()
_NO_SPACE.discarded = True


class Few(list[Any]):
    """A queue of a few. An empty deque takes 760 bytes, and aioquic has several."""

    __slots__ = ()

    def popleft(self) -> Any:
        """Take the oldest; as a deque does, it raises IndexError where there is none."""
        return self.pop(0)


class Challenges(Few):
    """The last challenges that were sent on a path."""

    __slots__ = ()

    def append(self, challenge: bytes) -> None:
        """Add one, at the expense of the oldest."""
        super().append(challenge)
        del self[:-MAX_LOCAL_CHALLENGES]


class SaidAll(Context):
    """TLS of a server that has no more to say: a client that goes on gets an alert."""

    _peer_certificate, _peer_certificate_chain = None, ()  # type: ignore[assignment]  # it asks for none

    def __init__(self, before: Context) -> None:
        self.state = before.state
        self.alpn_negotiated = before.alpn_negotiated
        self.early_data_accepted = before.early_data_accepted
        self._session_resumed = before._session_resumed
        self._receive_buffer = before._receive_buffer


class Forgetting(Guarded):
    """A connection whose server forgets the handshake. A client has few connections, and keeps it."""

    __slots__ = ()

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self._events: Few = Few()  # type: ignore[assignment]

    def take_events(self) -> list[Any]:
        """What happened since the last call."""
        events = self._events
        if events:
            self._events = Few()
        return events

    def _write_handshake_done_frame(self, builder: Any) -> None:
        """What is last to be said of the handshake. No packet of it is being read or written then."""
        super()._write_handshake_done_frame(builder)
        keys, space = self._cryptos[Epoch.ONE_RTT], self._spaces[Epoch.ONE_RTT]
        self._cryptos = {**dict.fromkeys(Epoch, _NO_KEYS), Epoch.ONE_RTT: keys}
        self._cryptos_initial = _NO_INITIAL_KEYS
        self._spaces = {**dict.fromkeys(Epoch, _NO_SPACE), Epoch.ONE_RTT: space}
        self._loss.spaces = [space]
        self._crypto_streams = {Epoch.ONE_RTT: self._crypto_streams[Epoch.ONE_RTT]}
        for path in self._network_paths:
            path.local_challenges = Challenges(path.local_challenges)  # type: ignore[assignment]
            path.remote_challenges = Few(path.remote_challenges)  # type: ignore[assignment]
        self.tls = SaidAll(self.tls)
