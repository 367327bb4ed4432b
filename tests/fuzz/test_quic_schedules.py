"""Whatever happens to a QUIC connection, in any order: what can be sent is sent, and no timer is late.

Engines skip looks where nothing can have changed. A fault there stalls a stream until something else happens.
"""

import pytest

from tests.support.quic_schedule import Schedule

STALLED = (229, 271)
"""Seeds with which frames, and data of a stream, once waited for nothing."""


@pytest.mark.parametrize("seed", [*range(10), *STALLED])
def test_nothing_waits_that_could_be_sent(seed):
    Schedule(seed).play()
