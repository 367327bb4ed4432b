"""The requests of a session: what is asked again, of whom, and with what."""

import gevent
import pytest
from gevent.event import Event

from lane.errors import Status
from lane.proto.frames import Data, Received, pack
from lane.proto.hello import Command
from lane.testing.harness import settled, until
from tests.support.requests_bed import TARGET


def test_a_spare_that_is_dead_is_replaced(beds):
    bed = beds()
    bed.reach()
    until(lambda: bed.pool._spares or bed.pool._least_loaded())
    app, _ = bed.application(bed.connect(TARGET))
    bed.next().stream.reset()
    for carrier in bed.carriers:
        carrier.close()
    second = bed.next()
    assert (second.request().command, second.request().generation) == (Command.CONNECT, 1)
    second.reply(more=pack(Received(0)))
    app.sendall(b"hello")
    until(lambda: second.early() == b"hello")


@pytest.fixture
def uncertain(beds):
    """The second request of a session whose first one was lost with data behind it."""
    bed = beds()
    bed.reach()
    until(lambda: bed.pool._spares or bed.pool._least_loaded())
    app, job = bed.application(bed.connect(TARGET), early=b"buy one")
    first = bed.next()
    until(lambda: first.early() == b"buy one")
    first.stream.reset()
    second = bed.next()
    assert second.request().command == Command.RESUME
    assert (second.request().session, second.request().generation) == (first.request().session, 1)
    return bed, app, job, second


def test_a_server_that_got_the_first_request_goes_on_with_it(uncertain):
    _, app, _, second = uncertain
    second.reply(more=pack(Received(7)) + pack(Data(0, b"bought")))
    assert app.recv(10) == b"bought"
    app.sendall(b"and another")
    until(lambda: second.early() == b"and another")


def test_a_server_that_did_not_is_told_again(uncertain):
    bed, _, _, second = uncertain
    second.reply(Status.GONE)
    third = bed.next()
    assert (third.request().command, third.request().generation) == (Command.CONNECT, 2)
    third.reply(more=pack(Received(0)))
    until(lambda: third.early() == b"buy one")


def test_data_that_another_server_process_may_have_got_are_not_sent_again(uncertain):
    bed, app, job, second = uncertain
    second.reply(Status.GONE, epoch=b"another!")
    job.join()
    assert app.recv(10) == b""
    assert not bed.asked


def test_a_replacement_that_comes_too_late_is_given_back(beds):
    bed = beds()
    bed.reach()
    until(lambda: bed.pool._spares or bed.pool._least_loaded())
    connection = bed.connect(TARGET)
    _, job = bed.application(connection)
    first = bed.next()
    asked, gate, lease = Event(), Event(), bed.pool.lease

    def slow(**how):
        asked.set()
        gate.wait()
        return lease(**how)

    bed.pool.lease = slow
    first.stream.reset()
    asked.wait()
    job.kill()
    gate.set()

    def in_use():
        standing = [spare.carrier for spare in bed.pool._spares]
        return [carrier for carrier, leases in bed.pool._leases.items() if leases and carrier not in standing]

    until(lambda: len(in_use()) == 1)  # the probe's
    assert not bed.asked


def test_it_is_replaced_twice(beds):
    bed = beds()
    bed.reach()
    until(lambda: bed.pool._spares or bed.pool._least_loaded())
    app, job = bed.application(bed.connect(TARGET))
    for _ in range(3):
        bed.next().stream.reset()
    job.join()
    assert app.recv(10) == b""
    assert not bed.asked


def test_a_session_that_its_application_gave_up_asks_nobody_again(beds):
    bed = beds()
    bed.reach()
    until(lambda: bed.pool._spares or bed.pool._least_loaded())
    connection = bed.connect(TARGET)
    gevent.sleep(0)
    connection.abort()
    until(lambda: not len(bed.registry))
    settled(lambda: len(bed.asked))
    assert len(bed.asked) <= 1
    assert TARGET in bed.connector._recent_targets
