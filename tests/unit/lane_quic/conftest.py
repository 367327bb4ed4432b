"""What tests of lane_quic share."""

from collections.abc import Iterator

import pytest
from lane_quic.plugin import QuicTransport

from lane.stream import Address
from lane.testing.harness import Kit


@pytest.fixture
def kit() -> Iterator[Kit]:
    """A listener on loopback, and what dials it."""
    kit = Kit(QuicTransport(), Address("127.0.0.1", 0))
    yield kit
    kit.close()
