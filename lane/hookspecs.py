"""The hooks that lane calls. What ships with lane is registered through them, as a third party's would be.

docs/PLUGINS.md explains each with an example; a test fails for a hook that has no entry there.
"""

from collections.abc import Callable, Sequence
from typing import Any

import pluggy

from lane.address import Address
from lane.stream import Transport

hookspec = pluggy.HookspecMarker("lane")


@hookspec
def lane_register_transports(register: Callable[[Transport], None]) -> None:
    """Call `register(transport)` for each transport. A name that is taken already is an error."""


@hookspec
def lane_add_options(group: Any) -> None:
    """Add options with `group.add_argument`, as argparse does; start their names with the plugin's."""


@hookspec
def lane_register_link_parameters(register: Callable[[str], None]) -> None:
    """Call `register(name)` for each of your options that clients need as the server has it: links carry it.

    `name` is that of the option without the dashes before it. Where the server's is set, the link has it as a
    parameter, and a client takes it from there unless its user sets the option.
    """


@hookspec
def lane_register_congestion(register: Callable[[str, Callable[[int], Any]], None]) -> None:
    """Call `register(name, factory)` for each congestion controller that you bring.

    `factory(datagram_size)` makes one for a connection (`lane_quic.congestion.Controller`); `--congestion`
    picks one by its name. A name that is taken already is an error.
    """


@hookspec
def lane_configure(options: Any, call_each: Callable[..., None]) -> None:
    """See the parsed options (a namespace) before any transport is used.

    What it raises ends the program with one line: `lane.errors.UsageError` and ValueError with exit status 2,
    everything else with that of `lane.errors.ConfigError`, 78.
    `call_each(hook, **arguments)` calls a hook in one plugin after the other, and reports who fails.
    """


@hookspec(firstresult=True)
def lane_authenticate(token: bytes, binding: bytes) -> str | None:
    """The name of the user whose HELLO on a carrier with `binding` has `token`; None to leave it to others.

    First result counts; nobody answering means refused.
    """


@hookspec(firstresult=True)
def lane_authorize(request: Address, identity: str) -> bool | None:
    """Whether `identity` may reach the target, before it is resolved; None to leave it to others.

    For a port on the server: the peer that is expected (SOCKS BIND), or where to listen (reverse forwards).

    First result counts; nobody answering means refused. The egress policy judges the address afterwards.
    """


@hookspec(firstresult=True)
def lane_choose(now: float, lanes: Sequence[Any], choice: str) -> tuple[str, str] | None:
    """The name of the transport that should carry now, and why; None to leave it to others, lane at last.

    Asked several times a second while there are sessions and more than one transport. `now`: seconds of a
    clock that never goes back. `lanes`: what is known of each (`lane.carriers.steer.Figures`). `choice`: the
    name of the one that carries.
    """


@hookspec(firstresult=True)
def lane_route(target: Address) -> str | None:
    """The way of a connection: `direct`, `block` or `lane`; None to leave it to others, the rules at last.

    Asked on a client, for every connection; it must not wait for anything.
    """


@hookspec
def lane_session_started(session: str, target: Address, identity: str) -> None:
    """A session was connected to its target, or waits at a port. `session` names it until it has ended."""


@hookspec
def lane_session_ended(session: str, sent: int, received: int, error: str | None) -> None:
    """A session ended: bytes from the application and to it, and why, or None for a clean end."""
