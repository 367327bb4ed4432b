"""The configuration of a server, and of `lane link` and `lane status`, which use its state folder."""

import os
import sys
from argparse import Namespace
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lane.address import Address
from lane.config.option_reader import Options, check_admin, check_buffers
from lane.errors import UsageError
from lane.meeting import find, server_path

if TYPE_CHECKING:
    from lane.egress.policy import ListenRule, Rule
    from lane.net.steering import Spread


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """The configuration of a server. Sizes are bytes, times are seconds."""

    listen: Address
    transports: tuple[str, ...]
    state_dir: Path
    renew: bool
    """Create a missing file in a state folder that was in use."""
    accounts: str
    """Where the accounts of users are: `file` for the state folder, or what a plugin knows."""
    cert: Path | None
    cert_key: Path | None
    """Set only together with `cert`."""
    cert_overlap: float
    """Seconds for which clients of a certificate's previous key accept the new one."""
    host: Address | None
    """The server's address for clients, in the link; port 0: the listening port."""
    carried: tuple[tuple[str, str], ...]
    """The plugins' options that the link contains."""
    workers: int
    """Processes that share the work."""
    spread: "Spread"
    """What they share out: see `lane.net.steering`."""
    allow: "tuple[Rule, ...]"
    deny: "tuple[Rule, ...]"
    allow_reverse: "tuple[ListenRule, ...]"
    """The addresses on which clients may let the server listen."""
    allow_bind: bool
    """Whether clients may let it listen for one connection (SOCKS BIND)."""
    buffer_size: int
    buffer_total: int
    max_sessions: int
    max_associations: int
    """The most UDP associations of one user."""
    max_sessions_per_peer: int
    hello_timeout: float
    request_timeout: float
    spare_timeout: float
    connect_timeout: float
    idle_timeout: float
    resume_grace: float
    """Seconds for which a session outlives its carrier."""
    grace: float
    upgrade_timeout: float
    """Seconds for clients to move to the new process at an upgrade."""
    handover: Path | None
    """A socket on which another process may take the place of this one."""
    plugin_dir: Path | None
    admin: Address | Path | None
    """Where it answers Prometheus: a port, or a socket of the file system."""
    admin_secret: str | None = field(repr=False)
    log_level: str
    log_file: Path | None
    log_format: str
    """`text` or `json`."""
    access_log: Path | None
    """`-` is standard output."""

    @property
    def forks(self) -> bool:
        """Whether the server is several processes: only Linux steers connections to them."""
        return self.workers > 1 and sys.platform == "linux"


@dataclass(frozen=True, slots=True)
class StatusConfig:
    """The configuration of `lane status`."""

    state_dir: Path
    json: bool


@dataclass(frozen=True, slots=True)
class UpgradeConfig:
    """The configuration of `lane upgrade`: where server and client may answer; None: not asked for."""

    server: Path | None
    client: Path | None
    json: bool


@dataclass(frozen=True, slots=True)
class LinkConfig:
    """The configuration of `lane link`: the identity, the server's address, and the plugins' options."""

    address: Address
    carried: tuple[tuple[str, str], ...]
    state_dir: Path
    cert: Path | None
    cert_key: Path | None


@dataclass(frozen=True, slots=True)
class ReloadConfig:
    """The configuration of `lane reload`."""

    control: Path
    """The socket of the server or the client."""
    who: str
    """`server` or `client`."""
    named: bool
    """Whether its folder was named: see `lane.meeting.connect`."""
    json: bool


def server_config(namespace: Namespace) -> ServerConfig:
    """Check the server's options. Raises UsageError or ConfigError."""
    options = Options(namespace, "server")
    values = options.values()
    config = ServerConfig(**{**values, **identity(options)}, carried=namespace.carried)
    check_buffers(options, config.buffer_size, config.buffer_total)
    check_admin(options, config.admin, config.admin_secret)
    return config


def link_config(namespace: Namespace) -> LinkConfig:
    """Check the options of `lane link`. Raises UsageError or ConfigError."""
    options = Options(namespace, "link")
    host = options.value("host")
    if host is None:
        raise UsageError("pass --host HOST:PORT, where clients reach the server")
    address = host if host.port else host._replace(port=options.value("listen").port)
    if not address.port:
        raise options.error("host", f"{address.host} needs a port: HOST:PORT")
    return LinkConfig(address, namespace.carried, **identity(options))


def status_config(namespace: Namespace) -> StatusConfig:
    """Check the options of `lane status`. Raises UsageError or ConfigError."""
    options = Options(namespace, "status")
    return StatusConfig(options.value("state_dir") or _default_state_dir(), options.value("json"))


def upgrade_config(namespace: Namespace) -> UpgradeConfig:
    """Check the options of `lane upgrade`. Raises UsageError or ConfigError.

    What the user names is upgraded. A file of the server's or the client's says only where it is.
    """
    options, sources = Options(namespace, "upgrade"), namespace.sources
    listen, control, folder = (options.value(name) for name in ("listen", "control", "state_dir"))
    values = {"listen": listen, "control": control, "state_dir": folder}
    named = [name for name in values if values[name] and not isinstance(sources.get(name), Path)]
    if "state_dir" in named and len(named) > 1:
        raise UsageError("--state-dir names a server, and --listen or --control a client: pass one")
    if isinstance(source := sources.get("listen"), Path) and source.name == "server.conf":
        listen = None  # it is the server's
    client = None
    if "state_dir" not in named and control != "off":
        client = control if isinstance(control, Path) else find(listen or Address("127.0.0.1", 1080))
    elif "control" in named:
        raise options.error("control", "a client without a socket can't be asked")
    server = None
    if named in ([], ["state_dir"]):
        try:
            server = server_path(folder or _default_state_dir())
        except UsageError:
            if client is None:
                raise
    return UpgradeConfig(server, client, options.value("json"))


def reload_config(namespace: Namespace) -> ReloadConfig:
    """Check the options of `lane reload`. Raises UsageError or ConfigError."""
    options = Options(namespace, "reload")
    if options.value("client"):
        listen, control = options.value("listen"), options.value("control")
        if control == "off":
            raise options.error("control", "a client without a socket can't be asked")
        path = find(listen) if control == "auto" else control
        return ReloadConfig(path, "client", False, options.value("json"))
    folder = options.value("state_dir") or _default_state_dir()
    return ReloadConfig(server_path(folder), "server", True, options.value("json"))


def identity(options: Options, *, own: bool = True) -> dict[str, Any]:
    """The fields for the place of a server's accounts and certificate. `own`: it may have one of its own."""
    state_dir = options.value("state_dir") or _default_state_dir()
    if not own:
        return {"state_dir": state_dir}
    cert, cert_key = options.value("cert"), options.value("cert_key")
    if (cert is None) != (cert_key is None):
        raise options.error("cert_key" if cert is None else "cert", "cert and cert-key need each other")
    return {"cert": cert, "cert_key": cert_key, "state_dir": state_dir}


def _default_state_dir() -> Path:
    """The folder that systemd created (systemd.exec), or one in the home folder (XDG Base Directory).

    Raises UsageError if this user has no home folder. Nobody would look for keys in the current folder.
    """
    given = os.environ.get("STATE_DIRECTORY", "").partition(":")[0]
    home = os.environ.get("XDG_STATE_HOME", "")
    if given or os.path.isabs(home):
        return Path(given or home + "/lane")
    if not os.path.isabs(home := os.path.expanduser("~")):
        raise UsageError(
            "this user has no home: pass --state-dir DIR, where certificate and accounts are kept"
        )
    return Path(home, ".local/state/lane")
