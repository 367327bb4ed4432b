"""The accounts that ship with lane, behind the hook `lane_accounts` as a plugin's are.

`--accounts` names them: `file` is the database in the state folder.
"""

import secrets
from pathlib import Path
from typing import TYPE_CHECKING

from lane import hookimpl
from lane.errors import ConfigError
from lane.users.directory import BookDirectory, SharedDirectory
from lane.users.source import Source
from lane.users.store import FILE, Store

if TYPE_CHECKING:
    from lane.users.redis_book import RedisBook

LOCAL = "file"
"""The accounts in the state folder."""
REDIS = ("redis://", "rediss://", "unix://")
"""How the URL of a Redis begins."""
_SERVER = secrets.token_hex(8)
"""The name of this server among others. Its workers have it in common: they are forked after this."""
PANEL = ("http://", "https://")
"""How the URL of a panel begins."""


class Kinds:
    """Opens lane's own kinds of accounts."""

    @hookimpl(trylast=True)
    def lane_accounts(self, where: str, state_dir: Path) -> Source | None:
        """See `lane.hookspecs`."""
        if where == LOCAL:
            return BookDirectory(Store(state_dir / FILE, hurried=True))
        if where.startswith(REDIS):
            return SharedDirectory(open_redis(where, state_dir), _SERVER)
        if where.startswith(PANEL):
            from lane.users.http_post import Endpoint  # noqa: PLC0415
            from lane.users.panel import Panel  # noqa: PLC0415

            return Panel(Endpoint.parse(where))
        return None


def open_redis(url: str, folder: Path | None = None) -> "RedisBook":
    """The accounts in a Redis: see `lane.users.redis_book`. Raises ConfigError if its package is missing."""
    try:
        from lane.users.redis_book import RedisBook  # noqa: PLC0415
    except ImportError:
        raise ConfigError("accounts in a Redis take the package redis: pip install 'lane[redis]'") from None
    return RedisBook(url, folder)
