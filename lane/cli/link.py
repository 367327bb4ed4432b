"""`lane link`: it prints the link for a client, with nothing else on standard output, for scripts."""

from lane import state
from lane.certs import own_identity
from lane.config import LinkConfig, is_loopback
from lane.errors import ConfigError
from lane.link import Link
from lane.plugins import Plugins
from lane.text import complain


def run(config: LinkConfig, plugins: Plugins) -> int:
    """Print the link of the first user. Raises ConfigError if no server has created its accounts yet."""
    found = state.look(config.state_dir, own_identity(config.cert, config.cert_key))
    if warning := only_here(config.address.host):
        complain(f"lane: {warning}")
    if found.first is None:
        raise ConfigError("this server has no user: lane user add NAME makes one")
    print(Link(found.first.key, config.address, found.identity.binding, config.carried))
    return 0


def only_here(host: str) -> str:
    """A warning if no other machine can use a link to `host`; else an empty text."""
    if host not in ("0.0.0.0", "::") and not is_loopback(host):
        return ""
    return f"a link to {host} works on this machine only: --host is the name or address that clients use"
