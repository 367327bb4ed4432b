"""`lane client`: it serves applications over carriers. Without a configured server it embeds one."""

import logging
import os
import secrets
from collections.abc import Sequence
from functools import partial

import gevent

from lane.address import Address
from lane.carriers.connector import FastOpen, TunnelConnector
from lane.carriers.network import watch
from lane.carriers.plugin_steering import steering
from lane.carriers.session_driver import SessionDeadlines
from lane.carriers.upstream import Upstream, cost, lead_through, make_paths
from lane.certs import PinnedTLS, ServerIdentity, VerifiedTLS
from lane.cli.administration import administer_client
from lane.cli.client_ports import ClientPorts
from lane.cli.client_succession import ClientSuccession
from lane.cli.configured import upstream_of
from lane.cli.listeners import make_reverses, make_terms, open_all
from lane.cli.reload import Again, Reloading, Step
from lane.cli.routing import make_direct, make_routes, read_again
from lane.cli.service import beyond_default, for_auto, run_until_signal, tell_wait
from lane.config import ClientConfig
from lane.control import open_control
from lane.egress.dialer import Dialer
from lane.egress.listening import Ports
from lane.egress.policy import ListenRule, Policy
from lane.egress.udp import UdpEgress
from lane.errors import UsageError
from lane.handover.arrivals import Arrivals
from lane.handover.client_parting import ClientParting
from lane.inbound import Inbound
from lane.inbound.udp_forward import UdpForward
from lane.link import KEY_SIZE
from lane.look.client import ClientView
from lane.net.resolver import system_resolver
from lane.plugins import Plugins
from lane.server import Server
from lane.server.listening import listen_all, listen_where_possible
from lane.server.resumption import Resumption
from lane.server.services import Associations, offers
from lane.session.registry import Registry
from lane.stream import ClientTLS, Listener, Transport
from lane.users.account import Account
from lane.users.source import Fixed
from lane.users.users import Users

log = logging.getLogger("lane.client")
_HERE = "127.0.0.1"


def run(config: ClientConfig, plugins: Plugins, again: Again[ClientConfig] | None = None) -> int:
    """Serve applications until a signal. Raises Fatal, Unreachable or Refused. `again` is for SIGHUP."""
    succession = ClientSuccession(config)
    transports = _transports(config, plugins)
    server: Server | None = None
    if config.server is None:
        server, upstream = _embed(config, plugins, transports)
    else:
        transports = lead_through(config.via, transports)
        upstream = succession.same_device(upstream_of(config))
        if config.transports == ("auto",) and (others := beyond_default(transports)):
            log.info("auto tries %s as well: a server offers it only if its --transport names it", others)
    transports.sort(key=cost)
    names = ", ".join(transport.name for transport in transports)
    registry = _registry(config)
    reason = "lowest CPU cost, no problems seen" if len(transports) > 1 else f"--transport is {names}"
    paths = make_paths(
        transports, upstream, config.dial_timeout, registry, reason=reason, policy=steering(plugins)
    )
    succession.carry_over(paths)
    deadlines = SessionDeadlines(config.request_timeout, config.resume_grace)
    connector = TunnelConnector(
        paths, registry, deadlines, FastOpen(config.fast_open), config.max_associations
    )
    direct = make_direct(config)
    routes = make_routes(config, plugins, connector, direct)
    terms = make_terms(config)

    def check() -> None:
        if config.check:
            log.info("%s answered in %.1f ms", upstream.address, connector.ping() * 1000)

    before = succession.before
    if before is not None:
        check()  # while the process before this one still serves
    succession.succeed()
    inbounds = open_all(config, routes, terms)
    address = inbounds[0].address
    if before is None:
        check()
    view = ClientView(paths)
    admin = administer_client(paths.snapshot, registry, view.tell, succession.place, config.admin_secret)
    connector.departures.possible = server is None
    control = open_control(
        config.control,
        address,
        lambda: {**paths.snapshot(), "admin": admin.name},
        paths.lanes.ask_all,
        before.status if before is not None else None,
    )
    if control:
        paths.when_changed(control.changed)
        control.views["view"] = view.tell
    ports = ClientPorts(inbounds, make_reverses(config, connector))
    parting = ClientParting(
        connector.departures,
        ports=ports.tcp,
        forwards=[*ports.udp, *ports.reverses],
        waiting=terms.openings.take,
        count=ports.__len__,
        timeout=config.upgrade_timeout,
    )
    succession.offer(parting, control, admin)
    ports.start(free=before is None)
    watcher = watch(paths.lanes.network_changed)

    def hold(now: ClientConfig) -> str:
        terms.credentials = now.credentials
        admin.read_again(now.admin_secret)
        return ""

    steps: dict[str, Step[ClientConfig]] = {
        "password": hold,
        "rules": partial(read_again, routes),
        "certificates of CAs": partial(_trust, upstream.tls),
    }
    reload = Reloading(config, again, steps)

    if control:
        control.answers["reload"] = partial(reload.ask, os.getpid())

    def close() -> None:
        gone = succession.left
        grace = 0.0 if gone else reload.config.grace
        admin.drain()
        watcher.kill(block=False)
        if control:
            control.close(left=gone)  # together with its port, so that another client can use both
        succession.stop()
        ports.close()
        tell_wait(len(registry) + len(direct), grace)
        # no limit: `grace` limits each
        gevent.joinall([gevent.spawn(drain, grace) for drain in (registry.drain, direct.drain)])
        ports.kill()  # no limit: it has END_TIME
        view.close()
        paths.close()
        succession.close()
        admin.close()
        if server:
            server.close(0)

    def greet() -> None:
        _greet(config, inbounds, names)
        kinds = ports.kinds(connector, routes, config.udp_idle_timeout)
        free = ports.free if before is not None else lambda: None
        succession.serve(Arrivals(paths.lanes, succession.others, kinds, free))

    return run_until_signal(greet, close, reload, upgrade=succession.upgrade, ended=succession.ended)


def _trust(tls: ClientTLS, config: ClientConfig) -> str:
    """Read the CAs again, if they are used: a step of `lane.cli.reload`. Raises ConfigError."""
    if not isinstance(tls, VerifiedTLS):
        return ""
    tls.trust(config.ca)
    return str(config.ca or "the system's CAs")


def _registry(config: ClientConfig) -> Registry:
    return Registry(
        config.buffer_size,
        config.buffer_total,
        config.idle_timeout,
        max_sessions=config.max_sessions,
        max_per_peer=config.max_sessions,
    )


def _transports(config: ClientConfig, plugins: Plugins) -> list[Transport]:
    """The requested transports. Raises UsageError for an unknown one."""
    if config.transports == ("auto",):
        if able := for_auto(plugins.transports.values()):
            return able
        raise UsageError("--transport auto: there is no transport to choose (lane plugins says why)")
    return [plugins.transport(name) for name in config.transports]


def _embed(config: ClientConfig, plugins: Plugins, transports: list[Transport]) -> tuple[Server, Upstream]:
    """Start a server in this process, reached over a real transport. Return it and how to reach it.

    It may connect to every target that this machine can reach: its user can do that without lane too.
    """
    identity = ServerIdentity.make()
    key = secrets.token_bytes(KEY_SIZE)
    users = Users(Fixed(Account("embedded", key)))
    plugins.register(users, "lane-users")
    address, listeners = _listen(config, transports, identity)
    policy, resolver = Policy((), (), local=True), system_resolver()
    service = offers(
        Dialer(policy, resolver).connect,
        Associations(partial(UdpEgress, policy, resolver), config.max_associations),
        Ports(policy, resolver, (ListenRule.parse("*"),), bind=True),
    )
    registry = _registry(config)
    resumption = Resumption(config.resume_grace, config.max_sessions, config.buffer_total // 2)
    server = Server(
        listeners, plugins.hook, service, registry, resumption, per_peer=config.max_sessions, users=users
    )
    return server, Upstream(address, PinnedTLS(identity.binding), key)


def _listen(
    config: ClientConfig, transports: list[Transport], identity: ServerIdentity
) -> tuple[Address, list[Listener]]:
    """Listen with `transports`. Those that were not requested and cannot listen are removed from the list."""
    if config.transports != ("auto",):
        port, listeners = listen_all(transports, Address(_HERE, 0), identity)
        return Address(_HERE, port), listeners
    address, listeners, failed = listen_where_possible(transports, _HERE, identity)
    for name, why in failed.items():
        log.warning("%s is left out: %s", name, why)
    transports[:] = [one for one in transports if one.name not in failed]
    return address, listeners


def _greet(config: ClientConfig, inbounds: Sequence[Inbound | UdpForward], names: str) -> None:
    address = inbounds[0].address
    if config.server is None:
        print("no server is set: an embedded one is used, and traffic leaves from THIS machine", flush=True)
    user = "USER:PASS@" if config.credentials else ""
    shown = Address("localhost", address.port) if address.host in ("::", "0.0.0.0") else address
    print(f"listening on {_places(inbounds[0])} (SOCKS5 and HTTP, over {names})", flush=True)
    for forward, inbound in zip(config.forwards, inbounds[1:], strict=False):
        print(f"forwarding {_places(inbound)} to {forward.target}", flush=True)
    for inbound in inbounds[1 + len(config.forwards) :]:
        print(f"taking redirected connections on {_places(inbound)}", flush=True)
    print(f"try: curl -x socks5h://{user}{shown} https://example.com", flush=True)


def _places(inbound: Inbound | UdpForward) -> str:
    return " and ".join(map(str, inbound.addresses))
