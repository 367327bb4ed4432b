"""The server that the options name, for the commands that connect to it."""

from lane.carriers.upstream import Upstream
from lane.certs import PinnedTLS, VerifiedTLS
from lane.config import ClientConfig
from lane.device import device_name
from lane.link import Link
from lane.stream import ClientTLS


def upstream_of(config: ClientConfig) -> Upstream:
    """The configured server. Raises ConfigError."""
    if isinstance(config.server, Link):
        link = config.server
        tls: ClientTLS = PinnedTLS(link.pin, config.server_name)
        return Upstream(link.address, tls, link.key, device_name(config.listen, link.key))
    assert config.server is not None
    assert config.key is not None
    tls = VerifiedTLS(config.ca, config.server_name or config.server.host)
    return Upstream(config.server, tls, config.key, device_name(config.listen, config.key))
