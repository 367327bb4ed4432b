"""`lane open`: it prints the address of the page of a running client or server, and opens it in a browser.

The process tells where its admin port is, on its control socket. So there is nothing to look up.
"""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

from lane.address import Address
from lane.asking import ask
from lane.cli import option_parser
from lane.cli.exits import ENDS
from lane.config import OpenConfig, status_config, why_config
from lane.errors import LaneError, Unreachable
from lane.meeting import server_path
from lane.text import printable

PORT = 9433
"""The port in examples."""
_NEAR = {"": "localhost", "::": "localhost", "0.0.0.0": "127.0.0.1"}
"""Where a browser here finds a port that listens on all addresses."""


def run(config: OpenConfig, plugins: object) -> int:
    """Print the address, and open it from a terminal. Raises Unreachable if there is none to be opened."""
    url = _url(config.admin or _found(config))
    print(url, flush=True)
    if not config.print and sys.stdout.isatty() and _has_browser():
        import webbrowser  # noqa: PLC0415

        webbrowser.open(url)
    return 0


def _found(config: OpenConfig) -> Address | Path:
    """The admin port of the first process that has one. Raises Unreachable."""
    without, silent = [], []
    for who in _asked(config):
        try:
            (answer,) = ask(_control(config, who), who=who, named=who == "server")
        except ENDS as error:
            silent.append(str(error))
            continue
        if "admin" not in answer:
            raise Unreachable(
                f"the {who} is of a version of lane that does not tell where its admin port is:"
                f" lane open --admin 127.0.0.1:{PORT}"
            )
        if where := answer["admin"]:
            return _parse(str(where))
        without.append(who)
    if without:
        raise Unreachable(
            f"the {without[0]} has no admin port: start it with"
            f" --admin 127.0.0.1:{PORT} (or --admin unix:PATH)"
        )
    raise Unreachable("; ".join(silent))  # no limit: this joins text


def _asked(config: OpenConfig) -> Iterator[str]:
    if config.control or not config.state_dir:
        yield "client"
    if config.state_dir or not config.control:
        yield "server"


def _control(config: OpenConfig, who: str) -> Path:
    """The socket of that process: the one that was named, or that of the configuration. Raises LaneError."""
    if who == "client":
        return config.control or why_config(option_parser.parse("why", [], _ignore)[0]).control
    return server_path(
        config.state_dir or status_config(option_parser.parse("status", [], _ignore)[0]).state_dir
    )


def _ignore(warning: str) -> None:
    """`lane why` and `lane status` show it."""


def _parse(where: str) -> Address | Path:
    """What the process has told. Raises Unreachable."""
    kind, _, path = where.partition(":")
    try:
        return Path(path) if kind == "unix" else Address.parse(where)
    except LaneError:
        raise Unreachable(f"the process tells no address: {printable(where)}") from None


def _url(where: Address | Path) -> str:
    """The address of the page at an admin port. Raises Unreachable for a socket of the file system."""
    if isinstance(where, Path):
        raise Unreachable(
            f"a browser cannot open unix:{where}. Forward it, from the machine with the browser:"
            f" ssh -N -L 127.0.0.1:{PORT}:{where} HOST, and open http://127.0.0.1:{PORT}/"
        )
    return f"http://{Address(_NEAR.get(where.host, where.host), where.port)}/"


def _has_browser() -> bool:
    """Whether there is a browser with windows. Those for terminals cannot show the page."""
    if sys.platform in ("darwin", "win32"):
        return True
    return any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY", "BROWSER"))
