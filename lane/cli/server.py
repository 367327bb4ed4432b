"""`lane server`: one port number for all transports, a certificate and a key that are kept, and a link."""

import logging
import socket
from functools import partial

from lane.address import Address
from lane.certs import KeyRing, Keys, ServerIdentity
from lane.cli.service import beyond_default, for_auto, listen_all, run_until_signal
from lane.config import DEFAULT_TRANSPORTS, ServerConfig
from lane.egress.dialer import Dialer
from lane.egress.listening import Ports
from lane.egress.policy import Policy
from lane.egress.udp import UdpEgress
from lane.link import Link
from lane.net.resolver import system_resolver
from lane.plugins import Plugins
from lane.server import Server
from lane.server.auth import KeyAuth
from lane.server.resumption import Resumption
from lane.server.server import Deadlines
from lane.server.services import Associations, offers
from lane.session.registry import Registry

log = logging.getLogger("lane.server")


def run(config: ServerConfig, plugins: Plugins) -> int:
    """Serve until a signal. Raises what keeps it from starting."""
    transports = [plugins.transport(name) for name in config.transports]
    others = beyond_default(for_auto(plugins.transports.values()))
    if others and config.transports == DEFAULT_TRANSPORTS:
        log.info("%s is not offered, though clients try it by themselves: --transport names what is", others)
    if config.cert is not None and config.cert_key is not None:
        identity = ServerIdentity.load(config.cert, config.cert_key)
    else:
        identity = ServerIdentity.keep(config.state_dir)
    keys = Keys.keep(config.state_dir)
    plugins.register(KeyAuth(KeyRing(keys, [identity.binding])), "lane-keys")
    listeners = listen_all(transports, config.listen, identity)
    registry = Registry(
        config.buffer_size,
        config.buffer_total,
        config.idle_timeout,
        max_sessions=config.max_sessions,
        max_per_peer=config.max_sessions_per_peer,
    )
    policy, resolver = Policy(config.allow, config.deny), system_resolver()
    server = Server(
        listeners,
        plugins.hook,
        offers(
            Dialer(policy, resolver, config.connect_timeout).connect,
            Associations(partial(UdpEgress, policy, resolver), config.max_associations),
            Ports(policy, resolver, config.allow_reverse),
        ),
        registry,
        Resumption(config.resume_grace, config.max_sessions, config.buffer_total // 2),
        per_peer=config.max_sessions_per_peer,
        deadlines=Deadlines(config.hello_timeout, config.request_timeout, config.spare_timeout),
    )
    address = listeners[0].address
    host = config.host or Address(_own_address(config.listen.host), 0)
    link = Link(keys.first[1], Address(host.host, host.port or address.port), identity.binding)

    def greet() -> None:
        names = ", ".join(config.transports)
        print(f"listening on {address.host or '*'}:{address.port} ({names})", link, sep="\n", flush=True)

    return run_until_signal(greet, lambda: server.close(config.grace))


def _own_address(listening: str) -> str:
    """The address that clients most likely reach this machine by; nothing is sent to find out."""
    if listening not in ("", "::", "0.0.0.0"):
        return listening
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("192.0.2.1", 9))  # TEST-NET-1, RFC 5737
        except OSError:
            return "127.0.0.1"
        host: str = sock.getsockname()[0]
        return host
