"""The ports of a client: the proxy port, ports with a fixed target, and ports on the server."""

from functools import partial

from gevent.pool import Pool

from lane.config import ClientConfig
from lane.egress.dialer import Dialer
from lane.egress.policy import ANYWHERE
from lane.inbound import Inbound, TargetConnector, Terms, UdpTerms, forward, handshake
from lane.inbound.redirect import Redirect
from lane.inbound.reverse import PARKED, ReverseForwarder, Reverser
from lane.inbound.udp_forward import UdpForward
from lane.link import Link
from lane.net.guesses import Guesses
from lane.net.own import REVERSE, TCP
from lane.net.resolver import system_resolver


def make_terms(config: ClientConfig) -> Terms:
    """The settings of the port for SOCKS5 and HTTP."""
    udp = UdpTerms(config.udp_idle_timeout, config.udp_anyone)
    guesses = Guesses("user or password", config.handshake_timeout / 2)  # the right password is still in time
    return Terms(config.credentials, config.handshake_timeout, udp, config.pac, guesses)


def open_all(config: ClientConfig, connector: TargetConnector, terms: Terms) -> list[Inbound | UdpForward]:
    """Bind all ports in `config` without starting them. The first one is that for SOCKS5 and HTTP.

    Together they serve as many connections as there may be sessions. Raises ConfigError.
    """
    served = Pool(config.max_sessions)
    proxy = partial(handshake.serve, connector=connector, terms=terms)
    inbounds: list[Inbound | UdpForward] = [Inbound(config.listen, proxy, served)]
    for each in config.forwards:
        if each.scheme == "udp":
            inbounds.append(
                UdpForward(
                    each.listen,
                    each.target,
                    connector,
                    idle_timeout=config.udp_idle_timeout,
                    most=config.max_associations,
                )
            )
        else:
            serve = partial(forward.serve, connector=connector, target=each.target)
            inbounds.append(Inbound(each.listen, serve, served, (TCP, REVERSE)))
    inbounds += [Inbound(listen, Redirect(connector).serve, served) for listen in config.redirects]
    return inbounds


def make_reverses(config: ClientConfig, reverser: Reverser) -> list[ReverseForwarder]:
    """Make the reverse forwards. The user chose their targets, so no policy checks them."""
    dialer = Dialer(ANYWHERE, system_resolver(), own=REVERSE)
    server = "this machine"
    if config.server is not None:
        server = (config.server.address if isinstance(config.server, Link) else config.server).host
    most = config.max_sessions // 4 // max(1, len(config.reverses))  # applications need sessions too
    limits = {"parked": max(1, min(PARKED, most)), "most": max(1, most)}
    return [
        ReverseForwarder(reverser, one.where, one.target, dialer.connect, shown=server, **limits)
        for one in config.reverses
    ]
