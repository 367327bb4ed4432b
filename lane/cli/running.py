"""Running one command: its options, its configuration, and what it needs beside itself.

A command imports its own modules only. `lane why` has no event loop and no plugins. What lives long enough to
need a log, a watchdog and signals, gets them here.
"""

import gc
import importlib
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING, Any

from lane import log
from lane.cli import option_parser
from lane.config import (
    CheckConfig,
    ClientConfig,
    PluginsConfig,
    ServerConfig,
    SpeedtestConfig,
    check_config,
    client_config,
    diag_config,
    link_config,
    open_config,
    plugins_config,
    reload_config,
    server_config,
    service_config,
    speedtest_config,
    status_config,
    top_config,
    upgrade_config,
    user_config,
    why_config,
)
from lane.config.settings import USERS
from lane.errors import UsageError
from lane.heap import settle
from lane.text import complain

if TYPE_CHECKING:
    from lane.plugins import Plugins

CONFIGS: dict[str, Callable[[Any], Any]] = {
    "client": client_config,
    "server": server_config,
    "check": check_config,
    "speedtest": speedtest_config,
    "why": why_config,
    "open": open_config,
    "link": link_config,
    "status": status_config,
    "upgrade": upgrade_config,
    "service install": service_config,
    "service remove": service_config,
    "reload": reload_config,
    "plugins": plugins_config,
    **{command: partial(user_config, command=command) for command in USERS},
    "diag": diag_config,
    "top": top_config,
}
"""Makes the configuration of a command from its options."""
_SERVICES = ("client", "server")
_CONFIGURED = (*_SERVICES, "check", "speedtest", "plugins")


def run(command: str, argv: Sequence[str]) -> int:
    """Run `command` with the options `argv`. Return its exit status. Raises one of `lane.cli.exits.ENDS`."""
    namespace, plugins = option_parser.parse(command, argv, _complain)
    config = CONFIGS[command](namespace)
    if plugins is not None and command in _CONFIGURED and config != PluginsConfig(measure=None):
        known = len(plugins.errors)
        try:
            plugins.configure(namespace)
        except UsageError as wrong:
            if not namespace.from_link:
                raise
            names = ", ".join(option.partition("=")[0] for option in namespace.from_link)
            raise UsageError(f"{wrong} (the server's link sets {names})") from None
        for error in plugins.errors[known:]:
            _complain(str(error))
    forks = isinstance(config, ServerConfig) and config.forks
    with ExitStack() as resources:
        logged = config.client if isinstance(config, CheckConfig | SpeedtestConfig) else config
        if plugins is not None and isinstance(logged, ClientConfig | ServerConfig):
            if forks:
                log.setup(logged.log_level, logged.log_file, logged.log_format, threads=False)
            else:
                watch(logged, plugins, resources)
        start = importlib.import_module(f"lane.cli.{_module(command, forks=forks)}").run
        if plugins is not None and command in _SERVICES:
            from lane.cli.reload import rereading  # noqa: PLC0415

            start = partial(start, again=rereading(command, argv, namespace, plugins, CONFIGS[command]))
            settle()
        gc.enable()
        status: int = start(config, plugins)
    return status


def _module(command: str, *, forks: bool) -> str:
    if command == "server":
        return "workers" if forks else "alone"
    if command == "reload":
        return "reload_command"
    return "user" if command in USERS else command.replace(" ", "_")


def watch(
    config: ClientConfig | ServerConfig, plugins: "Plugins", resources: ExitStack, process: str = ""
) -> None:
    """Set up the log, whose messages name the `process`, and what writes to it."""
    from lane import supervisor  # noqa: PLC0415
    from lane.watchdog import Watchdog  # noqa: PLC0415

    log.setup(config.log_level, config.log_file, config.log_format, process=process)
    supervisor.report_all(plugins.owner)
    resources.callback(Watchdog(plugins.owner).close)


def _complain(message: str) -> None:
    complain(f"lane: {message}")
