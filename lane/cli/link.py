"""`lane link`: the link that is all a client needs, alone on standard output, for scripts."""

from lane.certs import Keys, ServerIdentity
from lane.config import LinkConfig
from lane.errors import ConfigError
from lane.link import Link
from lane.plugins import Plugins


def run(config: LinkConfig, plugins: Plugins) -> int:
    """Print the link of the first user. Raises ConfigError where no server has made its keys yet."""
    own = config.cert is not None and config.cert_key is not None
    # `keep` would make what is missing, and the link would then be of no server that runs.
    for name in ("keys",) if own else ("keys", "identity.pem"):
        if not (config.state_dir / name).is_file():
            raise ConfigError(f"no {name} in {config.state_dir}: lane server makes it at its first start")
    if config.cert is not None and config.cert_key is not None:
        identity = ServerIdentity.load(config.cert, config.cert_key)
    else:
        identity = ServerIdentity.keep(config.state_dir)
    _, key = Keys.keep(config.state_dir).first
    print(Link(key, config.address, identity.binding))
    return 0
