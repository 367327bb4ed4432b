"""`lane link`: the link that is all a client needs, alone on standard output, for scripts."""

from lane import state
from lane.certs import own_identity
from lane.config import LinkConfig
from lane.link import Link
from lane.plugins import Plugins


def run(config: LinkConfig, plugins: Plugins) -> int:
    """Print the link of the first user. Raises ConfigError where no server has made its keys yet."""
    found = state.look(config.state_dir, own_identity(config.cert, config.cert_key))
    print(Link(found.keys.first[1], config.address, found.identity.binding))
    return 0
