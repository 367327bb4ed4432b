"""A pool over the transport that the test's marker names: see `tests.support.pools`."""

import pytest

from tests.support.pools import PoolBed


@pytest.fixture
def bed(request, clock):
    bed = PoolBed(request.param())
    yield bed
    bed.close()
