"""`lane server`: it listens on one port number with all transports, and keeps its certificate and accounts.

`Setup` is what a server reads before it listens. `serve` is one process that serves: all of the server, or
one of its workers (`lane.cli.workers`).
"""

import logging
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from time import time

from lane import state
from lane.address import Address
from lane.admin.access_log import AccessLog
from lane.admin.everyone import Shelves
from lane.admin.port import Place
from lane.certs import own_identity
from lane.cli.administration import administer
from lane.cli.certificate import Certificate
from lane.cli.link import only_here
from lane.cli.reload import Again, Reloading, Step
from lane.cli.service import beyond_default, for_auto, run_until_signal, tell_wait
from lane.config import DEFAULT_TRANSPORTS, ServerConfig
from lane.control import Control
from lane.egress.dialer import Dialer
from lane.egress.listening import Ports
from lane.egress.policy import Policy
from lane.egress.udp import UdpEgress
from lane.errors import ConfigError, LaneError, UsageError
from lane.link import KEY_SIZE, Link, encode
from lane.meeting import server_path
from lane.net.path_memory import PATHS
from lane.net.resolver import system_resolver
from lane.net.sockets import own_address
from lane.plugins import Plugins
from lane.server import Server, known_paths
from lane.server.begun import Begin, always
from lane.server.listening import listen_all
from lane.server.live import LiveSessions
from lane.server.resumption import Resumption
from lane.server.server import SPARES_PER_PEER, ClientDeadlines
from lane.server.services import Associations, offers
from lane.server.status import online, snapshot
from lane.session.registry import Registry
from lane.stream import Transport
from lane.tally import CARRIERS, PID, SESSIONS, SINCE, Count, Tally
from lane.text import describe
from lane.users.kinds import LOCAL, Kinds
from lane.users.presence import Here, Presence
from lane.users.source import Source
from lane.users.users import Users

log = logging.getLogger("lane.server")


@dataclass
class Setup:
    """A server's configuration, and what it read."""

    config: ServerConfig
    transports: list[Transport]
    kept: state.State

    @classmethod
    def read(cls, config: ServerConfig, plugins: Plugins) -> "Setup":
        """Read the state folder. Raises ConfigError."""
        transports = [plugins.transport(name) for name in config.transports]
        others = beyond_default(for_auto(plugins.transports.values()))
        if others and config.transports == DEFAULT_TRANSPORTS:
            log.info(
                "%s is not offered, though clients try it by themselves: --transport names what is", others
            )
        own = own_identity(config.cert, config.cert_key)
        kept = state.keep(config.state_dir, own, renew=config.renew, accounts=config.accounts == LOCAL)
        return cls(config, transports, kept)

    def reached(self, port: int) -> Address:
        """Where clients reach a server that listens on `port`."""
        host = self.config.host or Address(_own_address(self.config.listen.host), 0)
        return Address(host.host, host.port or port)

    def link(self, key: bytes, port: int) -> str:
        """The link for the user with this key."""
        return str(Link(key, self.reached(port), self.kept.identity.binding, self.config.carried))

    def greet(self, port: int) -> None:
        """Say where the server listens, and what its clients need."""
        config, kept = self.config, self.kept
        reached = self.reached(port)
        # Standard output may be a journal that others can read. Show the link only on a terminal, and only
        # once.
        if kept.made and kept.first and sys.stdout.isatty():
            for_clients = self.link(kept.first.key, port)
        elif config.accounts == LOCAL:
            for_clients = f"for clients: {_link_command(config, reached)}"
        else:
            link = self.link(bytes(KEY_SIZE), port)
            for_clients = f"for clients: {link.replace(encode(bytes(KEY_SIZE)), 'KEY')}"
        names = ", ".join(config.transports)
        print(f"listening on {Address(config.listen.host or '*', port)} ({names})")
        print(for_clients, flush=True)
        if warning := only_here(reached.host):
            print(warning, flush=True)


@dataclass(frozen=True)
class Role:
    """What a process is in a server."""

    tally: Tally
    """The numbers of all processes that serve."""
    worker: int
    """The number of this one."""
    status: Control
    """Answers `lane status`."""
    ready: Callable[[int], None]
    """Called with the port as soon as it listens."""
    stop: Callable[[], None] = lambda: None
    """Called when it ends, before its listeners are closed."""
    epoch: bytes | None = None
    """See `lane.server.server.Server`."""
    begin: Begin = always
    admin: Place | None = None
    """Where the admin port listens, if the processes share it."""
    shelves: Shelves | None = None
    """Where they leave what they have counted."""
    presence: Presence = field(default_factory=Presence)
    """Who is there, in all processes."""

    def count(self, field: int) -> Count:
        """A number of this process."""
        return Count(self.tally, self.worker, field)


def run(config: ServerConfig, plugins: Plugins, again: Again[ServerConfig] | None = None) -> int:
    """Serve until a signal, as one process. Raises Fatal if it cannot start. `again` is for SIGHUP."""
    setup = Setup.read(config, plugins)
    if config.workers > 1:
        log.warning("--workers: several take Linux, so this is one process")
    tally, since = Tally(), int(time())
    tally.put(0, PID, os.getpid())
    tally.put(0, SINCE, since)
    presence = Presence()
    status = Control(
        server_path(config.state_dir),
        partial(snapshot, tally, os.getpid(), since),
        who="server",
        answers={"online": partial(online, presence)},
    )

    def ready(port: int) -> None:
        try:
            status.start()
        except ConfigError as error:
            log.warning("lane status will not work: %s", error)
        setup.greet(port)

    return serve(setup, plugins, again, Role(tally, 0, status, ready, presence=presence))


def serve(setup: Setup, plugins: Plugins, again: Again[ServerConfig] | None, role: Role) -> int:
    """Be one process of a server until a signal: see `run`."""
    config, kept, workers = setup.config, setup.kept, role.tally.workers
    access = AccessLog(config.access_log, config.log_format)
    accounts = open_accounts(config, plugins)
    users = Users(accounts, Here(role.presence, role.worker))
    plugins.register(users, "lane-users")
    accounts.prepare(kept.identity.binding)
    known_paths.load(config.state_dir, PATHS)
    port, listeners = listen_all(setup.transports, config.listen, kept.identity)
    buffer_total = config.buffer_total // workers
    registry = Registry(
        config.buffer_size,
        buffer_total,
        config.idle_timeout,
        max_sessions=config.max_sessions,
        max_per_peer=config.max_sessions_per_peer,
        many_users=True,
        count=role.count(SESSIONS),
    )
    policy, resolver = Policy(config.allow, config.deny), system_resolver()
    dialer = Dialer(policy, resolver, config.connect_timeout)
    ports = Ports(policy, resolver, config.allow_reverse, bind=config.allow_bind)
    live = LiveSessions(access)
    resumption = Resumption(config.resume_grace, config.max_sessions, buffer_total // 2)
    server = Server(
        listeners,
        plugins.hook,
        offers(
            dialer.connect,
            Associations(partial(UdpEgress, policy, resolver, share=registry.share), config.max_associations),
            ports,
        ),
        registry,
        resumption,
        per_peer=config.max_sessions_per_peer,
        max_carriers=2 * config.max_sessions + SPARES_PER_PEER,  # over TLS each session has its own
        deadlines=_deadlines(config),
        epoch=role.epoch,
        begin=role.begin,
        count=role.count(CARRIERS),
        live=live,
        transports=config.transports,
        users=users,
    )
    admin = administer(
        config, server, live, registry, resumption,
        tally=role.tally, worker=role.worker, place=role.admin, shelves=role.shelves,
        link_of=lambda account: setup.link(account.key, port),
    )  # fmt: skip

    def hold(now: ServerConfig) -> str:
        policy.allow, policy.deny = now.allow, now.deny
        ports.rules, ports.bind = now.allow_reverse, now.allow_bind
        dialer.timeout, server.deadlines = now.connect_timeout, _deadlines(now)
        return ""

    def read_accounts(now: ServerConfig) -> str:
        accounts.refresh()
        return "the accounts"

    def reopen(now: ServerConfig) -> str:
        access.reopen(now.access_log, now.log_format)
        return f"{now.access_log} opened" if now.access_log else ""

    def read_secret(now: ServerConfig) -> str:
        admin.read_again(now.admin_secret)
        return ""

    certificate = Certificate(dict(zip(config.transports, listeners, strict=True)), kept.identity)
    steps: dict[str, Step[ServerConfig]] = {
        "limits": hold,
        "accounts": read_accounts,
        "certificate": certificate.read_again,
        "access log": reopen,
        "admin secret": read_secret,
    }
    reload = Reloading(config, again, steps)

    def close() -> None:
        if workers == 1:
            tell_wait(len(registry), reload.config.grace)
        admin.drain()
        role.status.close()
        role.stop()
        server.close(reload.config.grace)
        admin.close()
        access.close()
        known_paths.save(config.state_dir, PATHS, role.worker)

    return run_until_signal(partial(role.ready, port), close, reload, hurries=workers == 1)


def open_accounts(config: ServerConfig, plugins: Plugins) -> Source:
    """The accounts that `--accounts` names. Raises UsageError for unknown ones, ConfigError, Unreachable."""
    plugins.register(Kinds(), "lane-accounts")
    try:
        found = plugins.hook.lane_accounts(where=config.accounts, state_dir=config.state_dir)
    except LaneError:
        raise
    except Exception as error:
        raise ConfigError(f"--accounts {config.accounts}: {describe(error)}") from None
    if found is None:
        raise UsageError(f"--accounts {config.accounts}: no such accounts are known here (lane plugins)")
    if not isinstance(found, Source):
        raise ConfigError(f"--accounts {config.accounts}: a plugin gave {found!r}, which has no accounts")
    return found


def _deadlines(config: ServerConfig) -> ClientDeadlines:
    return ClientDeadlines(config.hello_timeout, config.request_timeout, config.spare_timeout)


def _link_command(config: ServerConfig, reached: Address) -> str:
    """The command that prints the link of this server."""
    words = ["lane", "link", "--state-dir", str(config.state_dir.absolute()), "--host", str(reached)]
    if config.cert is not None and config.cert_key is not None:
        words += ["--cert", str(config.cert.absolute()), "--cert-key", str(config.cert_key.absolute())]
    if config.carried and config.plugin_dir is not None:
        words += ["--plugin-dir", str(config.plugin_dir.absolute())]
    words += [f"--{name}={value}" for name, value in config.carried]
    return shlex.join(words)


def _own_address(listening: str) -> str:
    """The address at which clients most likely reach this machine."""
    if listening not in ("", "::", "0.0.0.0"):
        return listening
    try:
        return own_address()
    except OSError:
        return "127.0.0.1"
