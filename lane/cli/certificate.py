"""The certificate of a running server. Another program renews it; on SIGHUP the server reads it again."""

import logging
from collections.abc import Mapping

from lane import state
from lane.certs import ServerIdentity, own_identity
from lane.config import ServerConfig
from lane.errors import ConfigError
from lane.stream import Listener, Presents

log = logging.getLogger("lane.server")
OVERLAP = "--cert-overlap"


class Certificate:
    """The certificate that the `listeners` (by transport name) present. It is that of `identity` at first."""

    def __init__(self, listeners: Mapping[str, Listener], identity: ServerIdentity) -> None:
        self._listeners = listeners
        self._identity = identity

    @property
    def binding(self) -> bytes:
        """The binding of the certificate in use."""
        return self._identity.binding

    def read_again(self, config: ServerConfig) -> str:
        """Read it again and use it for new connections: a step of `lane.cli.reload`.

        If this raises ConfigError, the old certificate stays in use.
        """
        found = own_identity(config.cert, config.cert_key) or state.read_identity(config.state_dir)
        before = self._identity
        found = state.succeed(config.state_dir, before, found, config.cert_overlap)
        if found == before:
            return "the certificate (still the same)"
        able = [one for one in self._listeners.values() if isinstance(one, Presents)]
        try:
            for listener in able:
                listener.present(found)
        except ConfigError:
            for listener in able:
                listener.present(before)
            raise
        self._identity = found
        if lacking := [name for name, one in self._listeners.items() if not isinstance(one, Presents)]:
            log.warning("the new certificate takes a restart for %s", ", ".join(lacking))
        if found.binding != before.binding and config.cert_overlap:
            log.warning(
                "the new certificate has another key: links from before work for a while (%s)", OVERLAP
            )
        elif found.binding != before.binding:
            log.warning("the new certificate has another key: links from before do not work any more")
        return "the certificate"
