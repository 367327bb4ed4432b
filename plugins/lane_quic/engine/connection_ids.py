"""Connection IDs with working stateless reset tokens, and with the name of a server's worker.

aioquic's tokens are random, and it ignores the peer's. Here the server derives its tokens from its key. So
after a restart it can end the connections of its predecessor at once (RFC 9000 section 10.3.2).

Of several workers, each names itself in all of its IDs (`lane.net.siblings`), so that packets find it.
"""

import hmac
from typing import Any

from lane.net.siblings import here
from lane_quic.configuration import RESET_TOKEN_SIZE, reset_token
from lane_quic.engine.mtu_discovery import MtuDiscovery


class ConnectionIds(MtuDiscovery):
    """A connection that knows the reset tokens of both sides' connection IDs."""

    __slots__ = ("_state_key",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._state_key = b""

    def derive_tokens(self, state_key: bytes) -> None:
        """Derive a server's tokens from `state_key`. Without a key they are aioquic's random ones."""
        self._state_key = state_key
        if state_key:
            self.host_cid = self.first_cid = self.issued_cids[0].cid = here().named(self.host_cid)
            self.issued_cids[0].stateless_reset_token = reset_token(state_key, self.host_cid)

    def replenish_connection_ids(self) -> None:
        super().replenish_connection_ids()
        for cid in self.issued_cids:
            if self._state_key and not cid.was_sent:
                cid.cid = here().named(cid.cid)
                cid.stateless_reset_token = reset_token(self._state_key, cid.cid)

    @property
    def host_cids(self) -> list[bytes]:
        """The connection IDs of this side."""
        return [cid.cid for cid in self.issued_cids]

    def is_stateless_reset(self, datagram: bytes) -> bool:
        """Whether `datagram` is the peer's stateless reset of this connection."""
        end = datagram[-RESET_TOKEN_SIZE:]
        return any(
            hmac.compare_digest(end, cid.stateless_reset_token or b"")
            for cid in (self.peer_cid, *self.peer_cid_available)
        )
