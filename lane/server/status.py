"""What a running server tells on its control socket (`lane.control`): `lane status` shows it.

    version        the version of lane
    pid            the process to send signals to
    since          when it started, in seconds since the epoch
    workers        a list; each has `pid`, `since`, `restarts` (how often a worker there has died), `sessions`
                   and `carriers`
    sessions, carriers, restarts    the sums
    leaving        sessions that are still in the process before this one, while an upgrade lasts
    admin          where the admin port listens, as `--admin` takes it; null if there is none
    upgrade        how the last `lane upgrade` of this process went: empty if there was none

Every worker answers for all, at a socket that they share. So one that hangs or dies hides nothing.

Asked for its `view` it tells what `lane.look` describes. Asked for `online` it tells which users are there,
for `lane user list`: `online` has the number of sessions and of devices by `lane.users.presence.digest` of
the user's name.
"""

from functools import partial
from pathlib import Path
from typing import Any

from lane import __version__
from lane.control import Control
from lane.meeting import server_path
from lane.tally import CARRIERS, PID, RESTARTS, SESSIONS, SINCE, Tally
from lane.users.presence import Presence

_NUMBERS = {"sessions": SESSIONS, "carriers": CARRIERS, "restarts": RESTARTS}


def control(
    state_dir: Path, tally: Tally, presence: Presence, pid: int, since: int, *, admin: str | None
) -> Control:
    """The control socket of a process of a server: see `snapshot`."""
    return Control(
        server_path(state_dir),
        partial(snapshot, tally, presence, pid, since, admin),
        who="server",
        answers={"online": partial(online, presence)},
    )


def snapshot(tally: Tally, presence: Presence, pid: int, since: int, admin: str | None) -> dict[str, Any]:
    """What the module describes. `pid` and `since` are those of the process for signals."""
    return {
        "version": __version__,
        "pid": pid,
        "since": since,
        "admin": admin,
        "upgrade": tally.note,
        **{name: tally.total(field) for name, field in _NUMBERS.items()},
        "leaving": presence.leaving,
        "workers": [
            {
                "pid": tally.get(worker, PID),
                "since": tally.get(worker, SINCE),
                **{name: tally.get(worker, field) for name, field in _NUMBERS.items()},
            }
            for worker in range(tally.workers)
        ],
    }


def online(presence: Presence) -> dict[str, Any]:
    """What the module describes, of users."""
    return {"version": __version__, "online": {str(user): pair for user, pair in presence.online().items()}}
