"""The admin port of a server or a client (`--admin`), as the commands run it.

Its libraries are imported only where it is asked for.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from lane import state
from lane.config import ServerConfig
from lane.net.questions import Questions
from lane.server import Server
from lane.server.live import LiveSessions
from lane.server.resumption import Resumption
from lane.session.registry import Registry
from lane.tally import Tally
from lane.users.account import Account
from lane.users.kinds import LOCAL

if TYPE_CHECKING:
    from lane.admin.everyone import Shelves
    from lane.admin.health import Health
    from lane.admin.port import Place
    from lane.admin.web import Routes, WebServer

View = Callable[[float], Mapping[str, Any]]
"""Tells the view of lane, with the history that is newer than a time."""


class Closes(Protocol):
    """What ends with the admin port."""

    def close(self) -> None:
        """End."""


class Admin:
    """The admin port of this process. `name`: where it is, as `--admin` takes it."""

    name: str | None = None

    def __init__(self, name: str, web: "WebServer", health: "Health", *parts: Closes) -> None:
        self.name = name
        self._web = web
        self._health = health
        self._parts = parts

    def drain(self) -> None:
        """Say from now on that no more sessions are taken."""
        self._health.draining = True

    def read_again(self, secret: str | None) -> None:
        """Take another secret."""
        self._web.secret = secret

    def pause(self) -> None:
        """Leave requests to another process."""
        self._web.pause()

    def resume(self) -> None:
        """Take requests again."""
        self._web.resume()

    def close(self) -> None:
        """Stop answering."""
        self._web.close()
        for part in self._parts:
            part.close()


class Nothing(Admin):
    """Stands for the admin port of a process without one."""

    def __init__(self) -> None:
        pass

    def drain(self) -> None:
        """Do nothing."""

    def read_again(self, secret: str | None) -> None:
        """Do nothing."""

    def pause(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


def administer_client(
    snapshot: Callable[[], Mapping[str, Any]],
    registry: Registry,
    view: View,
    place: "Place | None",
    secret: str | None,
) -> Admin:
    """Open the admin port of a client, if there is to be one: at `place`, which is the caller's."""
    if place is None:
        return Nothing()
    from lane.admin import page  # noqa: PLC0415
    from lane.admin.client_admin import ClientAdmin  # noqa: PLC0415
    from lane.admin.health import Health  # noqa: PLC0415
    from lane.admin.pulse import Pulse  # noqa: PLC0415
    from lane.admin.view import view_routes  # noqa: PLC0415

    pulse, health = Pulse(), Health()
    counted = ClientAdmin(snapshot, registry, pulse.lag)
    routes: Routes = {**page.routes(), **health.routes, **counted.routes, **view_routes(view)}
    return Admin(place.name, place.open(routes, secret), health, pulse)


def administer(
    config: ServerConfig,
    server: Server,
    live: LiveSessions,
    registry: Registry,
    resumption: Resumption,
    *,
    view: View,
    tally: Tally,
    worker: int,
    place: "Place | None",
    shelves: "Shelves | None",
    questions: Questions,
    link_of: Callable[[Account], str],
) -> Admin:
    """Open the admin port of a process of a server, if there is to be one. Raises ConfigError.

    `link_of` makes the link of an account.
    """
    if config.admin is None:
        return Nothing()
    from lane.admin import page  # noqa: PLC0415
    from lane.admin.accounts import Accounts  # noqa: PLC0415
    from lane.admin.cleared import Cleared  # noqa: PLC0415
    from lane.admin.everyone import Everyone  # noqa: PLC0415
    from lane.admin.health import Health  # noqa: PLC0415
    from lane.admin.hysteria import Hysteria  # noqa: PLC0415
    from lane.admin.pulse import Pulse  # noqa: PLC0415
    from lane.admin.server_admin import ServerAdmin  # noqa: PLC0415
    from lane.admin.server_state import ServerState  # noqa: PLC0415
    from lane.admin.view import view_routes  # noqa: PLC0415

    pulse = Pulse()
    counted = ServerState(server, live, registry, resumption, pulse.lag, worker=worker, workers=tally.workers)
    everyone = Everyone(counted.collect, questions, shelves)
    pulse.work = counted.look if shelves is None else everyone.leave
    health = Health(lambda: tally.stopping)
    panel = Hysteria(everyone, server, live, shelves.cleared if shelves else Cleared())
    numbers = ServerAdmin(everyone, tally)
    routes: Routes = {
        **page.routes(),
        **health.routes,
        **numbers.routes,
        **panel.routes,
        **view_routes(view),
    }
    assert place is not None  # the role of the process has it
    parts: list[Closes] = [pulse, everyone]
    if config.accounts == LOCAL:
        accounts = Accounts(state.open_accounts(config.state_dir), link_of, everyone)
        routes = {**routes, **accounts.routes}
        parts.append(accounts)
    return Admin(place.name, place.open(routes, config.admin_secret), health, *parts)
