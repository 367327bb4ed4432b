"""The hooks that lane calls. lane's own transports use the same hooks as a third party's.

docs/PLUGINS.md explains each hook with an example. A test fails for a hook that has no entry there.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pluggy

from lane.address import Address
from lane.stream import Transport
from lane.users.source import Source

hookspec = pluggy.HookspecMarker("lane")


@hookspec
def lane_register_transports(register: Callable[[Transport], None]) -> None:
    """Call `register(transport)` for each transport. A name that is already taken is an error."""


@hookspec
def lane_add_options(group: Any) -> None:
    """Add options with `group.add_argument`, as in argparse. Start their names with the plugin's name."""


@hookspec
def lane_register_link_parameters(register: Callable[[str], None]) -> None:
    """Call `register(name)` for each option that clients must set as the server does. Links carry its value.

    `name` is the option's name without the leading dashes. If the option is set on the server, the link has
    it as a parameter. A client takes the value from the link unless its user sets the option.
    """


@hookspec
def lane_register_congestion(register: Callable[[str, Callable[[int], Any]], None]) -> None:
    """Call `register(name, factory)` for each congestion controller.

    `factory(datagram_size)` returns a `lane_quic.congestion.Controller` for one connection. `--congestion`
    selects a controller by its name. A name that is already taken is an error.
    """


@hookspec
def lane_configure(options: Any, call_each: Callable[..., None]) -> None:
    """Read the parsed options (a namespace). Called before any transport is used.

    An exception ends the program with one line on standard error. The exit status is 2 for ValueError and
    `lane.errors.UsageError`, and 78 for other exceptions, as for `lane.errors.ConfigError`.
    `call_each(hook, **arguments)` calls a hook in one plugin after the other and reports each failure.
    """


@hookspec(firstresult=True)
def lane_authenticate(token: bytes, binding: bytes, peer: str) -> str | None:
    """Return the name of the user whose HELLO has `token`, on a carrier with `binding`. None: unknown here.

    `peer` is the client's address, `HOST:PORT`. The first result counts. Without a result the client is
    refused.
    """


@hookspec(firstresult=True)
def lane_accounts(where: str, state_dir: Path) -> Source | None:
    """Return the accounts of this server, for `--accounts WHERE`. None: another plugin's.

    Called once, before the server listens. An exception ends the server, as in `lane_configure`. With
    several workers it is called in each of them.
    """


@hookspec(firstresult=True)
def lane_authorize(request: Address, identity: str) -> bool | None:
    """Return whether `identity` may reach the target `request`. None: no opinion.

    Called before the target's name is resolved. For a port on the server, `request` is the expected peer
    (SOCKS BIND) or the address to listen on (reverse forwards).

    The first result counts. Without a result the request is refused. The egress policy checks the resolved
    address afterwards.
    """


@hookspec(firstresult=True)
def lane_choose(now: float, lanes: Sequence[Any], choice: str) -> tuple[str, str] | None:
    """Return the name of the transport to use now, and the reason. None: no opinion. The first result counts.

    Called several times a second while there are sessions and more than one transport. `now` is the time of a
    monotonic clock, seconds. `lanes` has the measurements of each transport
    (`lane.carriers.path_signals.Figures`). `choice` is the name of the transport in use. Without a result
    lane chooses.
    """


@hookspec(firstresult=True)
def lane_route(target: Address) -> str | None:
    """Return the route of a connection: `direct`, `block` or `lane`. None: no opinion.

    Called on a client for every connection. It must not block. The first result counts. Without a result the
    routing rules decide.
    """


@hookspec
def lane_session_started(session: str, target: Address, identity: str) -> None:
    """A session is connected to its target, or waits on a port. `session` identifies it until its end."""


@hookspec
def lane_session_ended(session: str, sent: int, received: int, error: str | None) -> None:
    """A session ended. `sent` and `received` are bytes from and to the application. `error` is the reason.

    `error` is None for a clean end.
    """
