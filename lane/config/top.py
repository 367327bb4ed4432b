"""The configuration of `lane top`."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from lane.config.option_reader import Options
from lane.errors import UsageError
from lane.meeting import find, server_path


@dataclass(frozen=True, slots=True)
class TopConfig:
    """The configuration of `lane top`."""

    path: Path | None
    """The socket to ask. None: that of the client of `lane why`, or else of the server of `lane status`."""
    who: str
    """`client` or `server`."""
    once: bool
    json: bool


def top_config(namespace: Namespace) -> TopConfig:
    """Check the options. Raises UsageError."""
    options = Options(namespace, "top")
    listen, control, folder = (options.value(name) for name in ("listen", "control", "state_dir"))
    once, as_json = options.value("once"), options.value("json")
    if as_json and not once:
        raise UsageError("--json goes with --once")
    if folder is not None:
        if listen or control:
            raise UsageError("--state-dir names a server, and --listen or --control a client: pass one")
        return TopConfig(server_path(folder), "server", once, as_json)
    if control == "off":
        raise options.error("control", "a client without a socket can't be asked")
    path = control if isinstance(control, Path) else find(listen) if listen else None
    return TopConfig(path, "client", once, as_json)
