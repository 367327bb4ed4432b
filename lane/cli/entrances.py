"""The ports of a client: the proxy port first, then those that know their target by themselves."""

from functools import partial

from gevent.pool import Pool

from lane.config import ClientConfig
from lane.inbound import Connector, Inbound, Terms, UdpTerms, forward, handshake
from lane.inbound.redirect import Redirect


def open_all(config: ClientConfig, connector: Connector) -> list[Inbound]:
    """All that `config` asks for, bound and not started. The first is the one for SOCKS5 and HTTP CONNECT.

    Together they serve as many connections as there may be sessions. Raises ConfigError.
    """
    served = Pool(config.max_sessions)
    udp = UdpTerms(config.udp_idle_timeout, config.udp_anyone)
    terms = Terms(config.credentials, config.handshake_timeout, udp)
    proxy = partial(handshake.serve, connector=connector, terms=terms)
    inbounds = [Inbound(config.listen, proxy, served)]
    for each in config.forwards:
        serve = partial(forward.serve, connector=connector, target=each.target)
        inbounds.append(Inbound(each.listen, serve, served))
    redirected = [Inbound(listen, Redirect(connector).serve, served) for listen in config.redirects]
    return inbounds + redirected
