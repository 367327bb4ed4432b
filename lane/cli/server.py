"""`lane server`: it listens on one port number with all transports, and keeps its certificate and accounts.

`Setup` is what a server reads before it listens. `serve` is one process that serves: all of the server, or
one of its workers (`lane.cli.workers`).
"""

import logging
import shlex
import sys
from dataclasses import dataclass, replace
from functools import partial

from gevent.event import Event

from lane import state
from lane.address import Address
from lane.admin.access_log import AccessLog
from lane.certs import own_identity
from lane.cli.account_source import open_accounts
from lane.cli.administration import administer
from lane.cli.certificate import Certificate
from lane.cli.link import only_here
from lane.cli.reload import Again, Reloading, Step
from lane.cli.role import Role
from lane.cli.service import beyond_default, for_auto, run_until_signal, tell_wait
from lane.config import DEFAULT_TRANSPORTS, ServerConfig
from lane.egress.dialer import Dialer
from lane.egress.listening import Ports
from lane.egress.policy import Policy
from lane.egress.udp import UdpEgress
from lane.errors import ConfigError
from lane.handover.exchange import Desk
from lane.handover.retirement import Retirement
from lane.handover.server_parting import ServerParting
from lane.handover.succession import Inheritance
from lane.link import KEY_SIZE, Link, encode
from lane.look.server import ServerView
from lane.net.path_memory import PATHS
from lane.net.resolver import system_resolver
from lane.net.sockets import own_address
from lane.plugins import Plugins
from lane.server import Server, known_paths
from lane.server.listening import listen_all
from lane.server.live import LiveSessions
from lane.server.resumption import Resumption
from lane.server.server import SPARES_PER_PEER, ClientDeadlines
from lane.server.services import Associations, offers
from lane.session.registry import Registry
from lane.stream import Transport
from lane.tally import CARRIERS, SESSIONS
from lane.users.kinds import LOCAL
from lane.users.presence import Here
from lane.users.traffic import Limits, Traffic
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
        kept = replace(kept, identity=state.with_previous(config.state_dir, kept.identity))
        return cls(config, transports, kept)

    @property
    def processes(self) -> int:
        """Processes that serve."""
        return self.config.workers if self.config.forks else 1

    def after(self, before: Inheritance) -> "Setup":
        """The setup of a process that takes the place of another one. Raises ConfigError."""
        if before.workers not in (self.processes, 0):
            raise ConfigError(
                f"the running server has {before.workers} processes, and --workers asks for {self.processes}:"
                " stop it first"
            )
        listen = self.config.listen
        if not listen.port:
            listen = listen._replace(port=before.port)
        return replace(self, config=replace(self.config, listen=listen))

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


def serve(setup: Setup, plugins: Plugins, again: Again[ServerConfig] | None, role: Role) -> int:
    """Be one process of a server until a signal: see `run`."""
    config, kept, workers = setup.config, setup.kept, role.tally.workers
    access = AccessLog(config.access_log, config.log_format)
    accounts = open_accounts(config, plugins)
    traffic = Traffic(shared=role.buckets, worker=role.worker)
    users = Users(accounts, Here(role.presence, role.worker), traffic.drain)
    traffic.limits, traffic.spent = lambda user: Limits(*users.limits(user)), users.exhausted
    users.changed, users.uses = traffic.changed, traffic.uses
    plugins.register(users, "lane-users")
    accounts.prepare(kept.identity.binding)
    known_paths.load(config.state_dir, PATHS)
    if role.before is not None:
        role.before.succeed()
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
        traffic=traffic,
    )
    questions = role.questions()
    view = ServerView(
        server, live, registry, users,
        board=role.board, questions=questions, tally=role.tally, worker=role.worker, pid=role.pid,
    )  # fmt: skip
    role.status.views["view"] = view.tell
    admin = administer(
        config, server, live, registry, resumption, view=view.tell,
        tally=role.tally, worker=role.worker, place=role.admin, shelves=role.shelves, questions=questions,
        link_of=lambda account: setup.link(account.key, port),
    )  # fmt: skip
    server.requests.lose_sight(role.blind)
    server.requests.tell_lost = role.tell_lost
    for parcel in role.parcels:  # now, before any client asks for its session
        server.requests.adopt(parcel)
    server.requests.elsewhere, ports.borrow = role.others.take, role.others.borrow
    ended, left = Event(), Event()  # `left`: to another process

    def end() -> None:
        left.set()
        ended.set()

    def changed(succeeded: bool) -> None:
        for one in (role.status, admin):
            one.pause() if succeeded else one.resume()
        if not succeeded:  # the next process has died
            role.presence.clear(role.worker, other=True)

    parting = ServerParting(server, registry, listeners, config.upgrade_timeout)
    retirement = Retirement(parting, role.others, changed, end)
    role.hurry.append(retirement.hurry)
    desk = None
    if role.desk is not None:
        desk = Desk(role.desk, server.requests, ports.lend, retirement, server.requests.keep)

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

    def read_certificate(now: ServerConfig) -> str:
        said = certificate.read_again(now)
        accounts.prepare(certificate.binding)
        return said

    steps: dict[str, Step[ServerConfig]] = {
        "limits": hold,
        "accounts": read_accounts,
        "certificate": read_certificate,
        "access log": reopen,
        "admin secret": read_secret,
    }
    reload = Reloading(config, again, steps)

    role.status.answers["reload"] = partial(reload.ask, role.pid)

    def close() -> None:
        if workers == 1 and not left.is_set():
            tell_wait(len(registry), reload.config.grace)
            if config.handover is not None and len(registry):
                left.wait(reload.config.grace)  # the next process may come, and collect the sessions
        admin.drain()
        role.status.close(left=left.is_set())
        if role.keep is not None and not left.is_set():
            role.keep(retirement.surrender())
            left.set()
        if not left.is_set():
            role.stop()
        server.close(0.0 if left.is_set() else reload.config.grace)
        if desk is not None:
            desk.close()
        admin.close()
        view.close()
        questions.close()
        access.close()
        known_paths.save(config.state_dir, PATHS, role.worker)

    def greet() -> None:
        role.ready(port)
        if role.before is not None:
            role.before.serve(server.requests, role.others, role.desk_name)

    return run_until_signal(
        greet, close, reload, hurries=workers == 1, upgrade=role.upgrade or retirement.hurry, ended=ended
    )


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
