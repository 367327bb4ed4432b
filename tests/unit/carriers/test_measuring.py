"""Measuring the way to the server."""

import gevent
import pytest

from lane.carriers import measuring
from lane.carriers.measuring import Delays
from lane.errors import LaneError
from lane.proto.hello import Command
from tests.support.beds import Bed, echo, making_beds


@pytest.fixture
def beds():
    with making_beds(ways=("cheap",)) as make:
        yield make


@pytest.fixture
def busy():
    """A bed on the real time: while data flow without a pause, the other one stands still."""
    bed = Bed(("cheap",), echo)
    yield bed
    bed.close()


@pytest.mark.parametrize("move", [measuring.down, measuring.up])
def test_data_flow_for_the_time_and_the_progress_is_told(busy, move):
    told = []
    flow = move(busy.connector, 0.5, lambda part, rate: told.append((part, rate)))
    assert flow.size > 0
    assert flow.rate > 0
    assert told
    assert all(0 <= part <= 1 and rate >= 0 for part, rate in told)
    assert [part for part, _ in told] == sorted(part for part, _ in told)


def test_the_delay_is_measured_while_the_context_lasts(beds):
    with measuring.delays(beds().connector) as found:
        gevent.sleep(1.0)
    count = len(found.trips)
    assert count > 2
    gevent.sleep(1.0)
    assert len(found.trips) == count
    assert found.unanswered == 0


def test_a_silent_server_ends_the_questions(beds):
    bed = beds()
    with measuring.delays(bed.connector) as found:
        gevent.sleep(0.3)
        bed.ways["cheap"].held = True
        gevent.sleep(2 * measuring.ANSWER)
        assert found.unanswered == 1
        bed.ways["cheap"].held = False


def test_the_jitter_is_the_mean_step():
    assert Delays([1.0, 2.0, 1.5]).jitter == 0.75
    assert Delays([1.0, 2.0, 1.5]).median == 1.5
    assert Delays([1.0]).jitter is None
    assert (Delays().median, Delays().jitter) == (None, None)


def test_an_older_server_is_named_as_such(beds):
    bed = beds()
    bed.server.requests._offers = {
        command: offer for command, offer in bed.server.requests._offers.items() if command != Command.MEASURE
    }
    with pytest.raises(measuring.TooOld, match="too old for measurements: update lane there"):
        measuring.about(bed.connector)


@pytest.mark.parametrize("answer", [b"nonsense\n", b"[]\n", b"", b"x" * 5000])
def test_an_answer_that_is_none_is_an_error(answer):
    class Stream:
        def recv(self, limit):
            nonlocal answer
            data, answer = answer[:limit], answer[limit:]
            return data

    with pytest.raises(LaneError, match="the server's answer about itself is none"):
        measuring._answer(Stream())


@pytest.mark.parametrize("what", ["about", "delays"])
def test_its_place_at_the_server_is_free_at_once(beds, what):
    bed = beds()
    offer = bed.server.requests._offers[Command.MEASURE]
    if what == "about":
        measuring.about(bed.connector)
    else:
        with measuring.delays(bed.connector):
            gevent.sleep(0.2)
            assert len(offer) == 1
    gevent.sleep(0.5)
    assert len(offer) == 0
