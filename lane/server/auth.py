"""lane's own authentication of users: by the keys in the server's state folder.

It uses the same hooks as a plugin, and runs last, so that a plugin can be stricter.
"""

from lane import hookimpl
from lane.address import Address
from lane.keys import KeyRing


class KeyAuth:
    """Authenticates the users of a key ring, and allows each of them every target."""

    def __init__(self, ring: KeyRing) -> None:
        self.ring = ring
        """May be replaced. Call `lane.server.Server.users_changed` afterwards."""

    @hookimpl(trylast=True)
    def lane_authenticate(self, token: bytes, binding: bytes) -> str | None:
        """The user whose key made `token` for this carrier."""
        return self.ring.lookup(token, binding)

    @hookimpl(trylast=True)
    def lane_authorize(self, request: Address, identity: str) -> bool:
        """Allow every target. The egress policy checks the target's address later."""
        return True
