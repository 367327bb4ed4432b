"""The public test kit for transports: the contract as tests, and two simple transports.

The author of a transport subclasses `TransportContract`. `MemoryTransport` and `TCPTransport` are for tests
of code that uses streams. They have no certificates. The kit needs pytest.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"lane.testing.{name}"
        for name in ("carriers", "datagrams", "endings", "harness", "scene", "strangers", "streams")
    )
)

from lane.testing.certs import PinnedClient, SelfSigned, client_tls, server_tls  # noqa: E402
from lane.testing.contract import TransportContract  # noqa: E402
from lane.testing.memory import MemoryTransport  # noqa: E402
from lane.testing.tcp import TCPTransport  # noqa: E402

__all__ = [
    "MemoryTransport",
    "PinnedClient",
    "SelfSigned",
    "TCPTransport",
    "TransportContract",
    "client_tls",
    "server_tls",
]
