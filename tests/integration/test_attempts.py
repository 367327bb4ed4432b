"""Attempts of a session to go on over a lane: they are called off where they can't succeed."""

import time

import gevent
import pytest

from lane.carriers import path_control as path_control_module
from lane.carriers.path_selection import Decision
from lane.testing.harness import until
from tests.support.beds import making_beds


@pytest.fixture
def beds():
    with making_beds(ways=("cheap", "dear")) as make:
        yield make


def exchange(app, text=b"hello"):
    app.sock.sendall(text)
    return app.sock.recv(100) == text


@pytest.fixture
def hanging(beds):
    """A session that moves to "dear", where dials hang: the bed, the choice, the session, the dials."""
    wanted = ["cheap"]
    bed = beds(policy=lambda now, lanes, state: Decision(wanted[0], "", state))
    bed.app = bed.application()
    assert exchange(bed.app)
    until(lambda: all(lane.probe.alive for lane in bed.lanes.lanes.values()))
    bed.lanes.lanes["dear"].pool._share = 1  # a move takes a fresh stream
    gate, dial = gevent.event.Event(), bed.ways["dear"].dial
    hung = []

    def hangs(*where):
        hung.append(where)
        return gate.wait() and dial(*where)

    bed.ways["dear"].dial = hangs
    wanted[0] = "dear"
    bed.paths.paths_changed()
    until(lambda: hung)
    (driver,) = bed.paths._drivers.values()
    yield bed, wanted, driver, hung
    gate.set()


def test_a_session_does_not_wait_for_a_dial_on_a_lane_that_is_no_choice_any_more(hanging):
    bed, wanted, driver, _ = hanging
    wanted[0] = "cheap"
    bed.ways["cheap"].drop()  # the session has no stream meanwhile
    until(lambda: driver.session.carried and driver.lane.name == "cheap")
    assert exchange(bed.app)


@pytest.mark.parametrize("changed", [True, False])
def test_a_session_leaves_a_silent_stream_sooner_when_the_network_has_changed(beds, monkeypatch, changed):
    monkeypatch.setattr(path_control_module, "STUCK", 3600.0)
    monkeypatch.setattr(path_control_module, "DOUBTFUL", 3600.0)
    bed = beds()
    app = bed.application()
    assert exchange(app)
    until(lambda: bed.lanes.choice.probe.alive)
    (driver,) = bed.paths._drivers.values()
    rescued = []
    monkeypatch.setattr(driver, "rescue", rescued.append)
    if changed:
        bed.lanes.network_changed()
    until(lambda: bed.lanes.choice.probe.silence(time.monotonic()) < 0.2)
    monkeypatch.setattr(type(app.session), "silence", lambda session, now: 1.0)
    for alive in (False, True):  # it may have died since the look began
        monkeypatch.setattr(bed.lanes.choice.probe, "alive", alive)
        bed.paths._care(driver, time.monotonic(), works=True)
        assert rescued == [bed.lanes.choice] * (changed and alive)
    monkeypatch.undo()


def test_a_session_dials_again_when_the_network_has_changed(hanging):
    bed, _, driver, hung = hanging
    bed.lanes.network_changed()
    until(lambda: len(hung) > 1)
    until(lambda: driver.attempt is not None)
    assert exchange(bed.app)  # the old stream carries it
