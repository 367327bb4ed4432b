"""The accounts that ship with lane, behind the hook `lane_accounts` as a plugin's are.

`--accounts` names them: `file` is the database in the state folder.
"""

from pathlib import Path

from lane import hookimpl
from lane.users.directory import BookDirectory
from lane.users.source import Source
from lane.users.store import FILE, Store

LOCAL = "file"
"""The accounts in the state folder."""
PANEL = ("http://", "https://")
"""How the URL of a panel begins."""


class Kinds:
    """Opens lane's own kinds of accounts."""

    @hookimpl(trylast=True)
    def lane_accounts(self, where: str, state_dir: Path) -> Source | None:
        """See `lane.hookspecs`."""
        if where == LOCAL:
            return BookDirectory(Store(state_dir / FILE, hurried=True))
        if where.startswith(PANEL):
            from lane.users.http_post import Endpoint  # noqa: PLC0415
            from lane.users.panel import Panel  # noqa: PLC0415

            return Panel(Endpoint.parse(where))
        return None
