"""How sessions spread over the carriers of a lane, each of which gets as much of the line."""

from types import SimpleNamespace

import gevent

from lane.carriers.crowding import AT_ONCE, FEW, UNEVEN, leaving
from lane.carriers.path_control import LOOK_AT_LEAST
from lane.carriers.session_driver import SessionDriver
from lane.testing import memory
from lane.testing.harness import until
from tests.support.beds import making_beds


class Carrier:
    """One with so many active sessions, and room for so many more."""

    def __init__(self, sessions, room):
        self.sessions, self.capacity = sessions, room


def sessions(*carriers, moving=False, settled=True):
    return [
        SimpleNamespace(carrier=carrier, moving=moving, settled=settled)
        for carrier in (Carrier(*numbers) for numbers in carriers)
        for _ in range(carrier.sessions)
    ]


def leave(*carriers, **how):
    return leaving(sessions(*carriers, **how), lambda carrier: carrier.capacity)


def test_sessions_leave_for_room_and_not_to_come_back():
    assert len(leave((128, 0), (1, 127))) == AT_ONCE
    assert len(leave((30, 50), (4, 100))) == 13
    assert not leave((UNEVEN * 20 + FEW, 0), (20, 100))
    assert not leave((60, 60), (1, 60)), "it is full of idle ones"
    assert not leave((128, 0), (1, 127), moving=True)
    assert not leave((128, 0))
    assert len(leave((30, 50), (4, 100), (1, 0))) == 13, "the last one is not handed out"


def test_those_who_wait_for_the_first_answer_keep_nobody_from_leaving():
    waiting = sessions((AT_ONCE, 0), settled=False)
    crowd = waiting + [SimpleNamespace(carrier=waiting[0].carrier, moving=False, settled=True)] * 40
    going = leaving(crowd + sessions((1, 127)), lambda carrier: carrier.capacity)
    assert len(going) == AT_ONCE
    assert all(session.settled for session in going)


def test_nobody_leaves_for_a_carrier_that_is_not_handed_out(monkeypatch):
    moved = []
    move = SessionDriver.move
    monkeypatch.setattr(
        SessionDriver, "move", lambda driver, lane: moved.append(driver) or move(driver, lane)
    )
    with making_beds(ways=("cheap",)) as make:
        bed = make()
        applications = [bed.application()]
        until(lambda: bed.lanes.choice.probe.alive)
        bed.lanes.choice.pool.distrust(bed.paths.moving[0].carrier)
        applications += [bed.application() for _ in range(UNEVEN + FEW + 1)]
        for app in applications:
            app.sock.sendall(b"data")
            assert app.sock.recv(100) == b"data"
        gevent.sleep(2 * LOOK_AT_LEAST)
        assert len(bed.paths.moving) == len(applications)
        assert not moved


def test_transfers_that_fill_a_carrier_share_the_line_with_the_first_on_another(monkeypatch):
    monkeypatch.setattr(memory, "STREAMS", 40)
    with making_beds(ways=("cheap",)) as make:
        bed = make()
        first = [bed.application()]
        until(lambda: bed.lanes.choice.probe.alive)
        applications = first + [bed.application() for _ in range(40)]

        def numbers():
            for app in applications:
                app.sock.sendall(b"data")
            found = {}
            for driver in bed.paths.newest():
                found.setdefault(driver.carrier, []).append(driver)
            return sorted(map(len, found.values()))

        assert numbers()[0] < 5
        until(lambda: numbers()[0] * UNEVEN + FEW >= numbers()[-1])
        for app in applications:
            app.sock.sendall(b"the end")
            data = b""
            while not data.endswith(b"the end"):
                data += app.sock.recv(1000)
            assert data.replace(b"data", b"") == b"the end"
