"""Connection IDs whose stateless reset tokens mean something.

aioquic's tokens are random, and it ignores the peer's. Here the server derives them from its key, so that a
restarted server can end the connections of its former self at once (RFC 9000 section 10.3.2).
"""

import hmac
from typing import Any

from lane_quic.configuration import RESET_TOKEN_SIZE, reset_token
from lane_quic.engine.mtu_discovery import MtuDiscovery


class ConnectionIds(MtuDiscovery):
    """A connection that knows the reset tokens of its own and of the peer's connection IDs."""

    __slots__ = ("_state_key",)

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._state_key = b""

    def derive_tokens(self, state_key: bytes) -> None:
        """Of a server: have tokens derived from its key. None is issued without one."""
        self._state_key = state_key
        if state_key:
            self.issued_cids[0].stateless_reset_token = reset_token(state_key, self.host_cid)

    def replenish_connection_ids(self) -> None:
        super().replenish_connection_ids()
        for cid in self.issued_cids:
            if self._state_key and not cid.was_sent:
                cid.stateless_reset_token = reset_token(self._state_key, cid.cid)

    @property
    def host_cids(self) -> list[bytes]:
        """The connection IDs that this side answers to."""
        return [cid.cid for cid in self.issued_cids]

    def is_stateless_reset(self, datagram: bytes) -> bool:
        """Whether the peer says with `datagram` that it has forgotten this connection."""
        end = datagram[-RESET_TOKEN_SIZE:]
        return any(
            hmac.compare_digest(end, cid.stateless_reset_token or b"")
            for cid in (self.peer_cid, *self.peer_cid_available)
        )
