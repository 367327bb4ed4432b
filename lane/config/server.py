"""What the options of a server mean, and those of `lane link`, which speaks of the same identity."""

import os
from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lane.address import Address
from lane.config.option_reader import Options, check_buffers
from lane.egress.policy import ListenRule, Rule
from lane.errors import UsageError


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """How a server runs. Sizes are bytes, times are seconds."""

    listen: Address
    transports: tuple[str, ...]
    state_dir: Path
    renew: bool
    """Make what is missing of a state folder that was in use."""
    cert: Path | None
    cert_key: Path | None
    """Set exactly where `cert` is."""
    host: Address | None
    """Where clients reach the server, for the link; port 0: the one it listens on."""
    carried: tuple[tuple[str, str], ...]
    """Options of plugins that are in the link, too."""
    allow: tuple[Rule, ...]
    deny: tuple[Rule, ...]
    allow_reverse: tuple[ListenRule, ...]
    """Where clients may have the server listen."""
    allow_bind: bool
    """Whether they may have it listen for one connection (SOCKS BIND)."""
    buffer_size: int
    buffer_total: int
    max_sessions: int
    max_associations: int
    """Of one user."""
    max_sessions_per_peer: int
    hello_timeout: float
    request_timeout: float
    spare_timeout: float
    connect_timeout: float
    idle_timeout: float
    resume_grace: float
    """For how long a session outlives its carrier."""
    grace: float
    plugin_dir: Path | None
    log_level: str
    log_file: Path | None


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """What `lane link` needs: which identity, where clients reach it, and what they need of plugins."""

    address: Address
    carried: tuple[tuple[str, str], ...]
    state_dir: Path
    cert: Path | None
    cert_key: Path | None


def server_config(namespace: Namespace) -> ServerConfig:
    """The server's options, checked. Raises UsageError or ConfigError."""
    options = Options(namespace, "server")
    values = options.values()
    config = ServerConfig(**{**values, **_identity(options)}, carried=namespace.carried)
    check_buffers(options, config.buffer_size, config.buffer_total)
    return config


def link_config(namespace: Namespace) -> LinkConfig:
    """The options of `lane link`, checked. Raises UsageError or ConfigError."""
    options = Options(namespace, "link")
    host = options.value("host")
    if host is None:
        raise UsageError("pass --host HOST:PORT, where clients reach the server")
    address = host if host.port else host._replace(port=options.value("listen").port)
    if not address.port:
        raise options.error("host", f"{address.host} needs a port: HOST:PORT")
    return LinkConfig(address, namespace.carried, **_identity(options))


def _identity(options: Options) -> dict[str, Any]:
    """Where a server's keys and certificate are."""
    cert, cert_key = options.value("cert"), options.value("cert_key")
    if (cert is None) != (cert_key is None):
        raise options.error("cert_key" if cert is None else "cert", "cert and cert-key need each other")
    state_dir = options.value("state_dir") or _default_state_dir()
    return {"cert": cert, "cert_key": cert_key, "state_dir": state_dir}


def _default_state_dir() -> Path:
    """The folder that systemd made for us (systemd.exec), or one in the home (XDG Base Directory).

    Raises UsageError where this user has no home: nobody would look for keys in the folder that we are in.
    """
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    home = os.environ.get("XDG_STATE_HOME", "")
    if given or os.path.isabs(home):
        return Path(given or home + "/lane")
    if not os.path.isabs(home := os.path.expanduser("~")):
        raise UsageError("this user has no home: pass --state-dir DIR, where certificate and keys are kept")
    return Path(home, ".local/state/lane")
