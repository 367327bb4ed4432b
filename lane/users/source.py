"""Where a server's accounts come from: what a plugin for the hook `lane_accounts` gives.

A plugin that can list all users gives a `lane.users.directory.Directory`, which needs one function. One that
can only be asked for a single user is a subclass of `Source`. docs/PLUGINS.md has examples of both.
"""

from collections.abc import Callable, Iterable, Mapping

from lane.users.account import Account
from lane.users.book import Changes
from lane.users.rate_shares import Use
from lane.users.tokens import Tokens


class Source:
    """The accounts of a server. Methods are called in greenlets, and may wait as gevent does."""

    def find(self, token: bytes, binding: bytes, peer: str) -> Account | None:
        """The account whose key made `token` for a server certificate with `binding`. None: a stranger.

        `token` and `binding` have 32 bytes: see `lane.proto.hello.token`. `peer` is the address of the
        client, `HOST:PORT`. A user whose account has expired or is disabled is no stranger: the server
        refuses its requests with the reason. An exception refuses this client only.
        """
        raise NotImplementedError

    def get(self, name: str) -> Account | None:
        """The account called `name`, as far as it is known here. It must not wait."""
        raise NotImplementedError

    def start(self, told: Callable[[Changes], None], online: Callable[[str], bool]) -> None:
        """Begin to watch. Call `told` with each change of an account that `get` knows.

        `online` says whether a user is there.
        """

    def prepare(self, binding: bytes) -> None:
        """A certificate with `binding` will be presented soon."""

    def refresh(self) -> None:
        """Look for changes now, as SIGHUP asks. Raises LaneError if that fails."""

    def count(self, used: Mapping[str, tuple[int, int]], seen: Iterable[str], now: float) -> None:
        """Keep what users have used since the last call, in bytes (up, down), and that users were there.

        If it raises an exception, the same bytes come again with the next call.
        """

    def share(
        self, uses: Mapping[str, Use], rates: Mapping[str, float]
    ) -> Mapping[str, tuple[float, float]] | None:
        """Share rates with other servers: the parts (0 to 1) that this server may use now, up and down.

        `rates` are those of the users who are here, bytes a second. `uses` is what they have used of them
        since the last call, which is `lane.users.users.SHARE` seconds ago. None: nothing is ever shared.
        """
        return None

    def spent(self, names: Iterable[str], now: float) -> dict[str, int]:
        """The bytes that users have used in the month of `now`, on all servers."""
        return {}

    def close(self) -> None:
        """Stop watching."""


class Fixed(Source):
    """These accounts, which never change. None: the users are known to plugins (`lane_authenticate`)."""

    def __init__(self, *accounts: Account) -> None:
        self._tokens = Tokens(accounts)

    def find(self, token: bytes, binding: bytes, peer: str) -> Account | None:
        """See `Source`."""
        return self._tokens.find(token, binding)

    def get(self, name: str) -> Account | None:
        """See `Source`."""
        return self._tokens.get(name)
