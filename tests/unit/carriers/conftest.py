"""A pool with its far side, and a client's connector with its own."""

import pytest

from lane.carriers.connector import FastOpen
from lane.testing import MemoryTransport, TCPTransport
from tests.support import requests_bed
from tests.support.pools import PoolBed


@pytest.fixture
def bed(request, clock):
    """A pool over the transport that the test's marker names: see `tests.support.pools`."""
    bed = PoolBed(request.param())
    yield bed
    bed.close()


@pytest.fixture(params=[TCPTransport, MemoryTransport], ids=["tcp", "memory"])
def beds(request, clock):
    """A function that makes connectors whose far side answers: see `tests.support.requests_bed`."""
    made = []

    def make(fast_open=FastOpen.AUTO, **options):
        made.append(requests_bed.Bed(request.param(), fast_open, **options))
        return made[-1]

    yield make
    for bed in made:
        bed.close()
