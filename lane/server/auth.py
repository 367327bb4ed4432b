"""Who may use the server, as lane itself answers: the keys of its state folder.

It answers through the same hooks as a plugin would, and last where a plugin may want to be stricter.
"""

from lane import hookimpl
from lane.address import Address
from lane.keys import KeyRing


class KeyAuth:
    """Knows the users of a key ring, and lets each of them reach every target."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        """May be replaced; `lane.server.Server.users_changed` then."""

    @hookimpl(trylast=True)
    def lane_authenticate(self, token: bytes, binding: bytes) -> str | None:
        """The user whose key made `token` for this carrier."""
        return self.ring.lookup(token, binding)

    @hookimpl(trylast=True)
    def lane_authorize(self, request: Address, identity: str) -> bool:
        """Whoever has a key may ask; the egress policy judges the target's address."""
        return True
