"""The public test kit for transports: the contract as tests, and two transports that are easy to see through.

A transport's author subclasses `TransportContract`; `MemoryTransport` and `TCPTransport` carry what is
built on streams in tests, without certificates. The kit needs pytest.
"""

import pytest

pytest.register_assert_rewrite(
    *(
        f"lane.testing.{name}"
        for name in ("carriers", "datagrams", "harness", "scene", "strangers", "streams")
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
