"""How sessions spread over the carriers of a lane, each of which gets as much of the line."""

from types import SimpleNamespace

from lane.carriers.crowding import AT_ONCE, FEW, UNEVEN, leaving
from lane.testing import memory
from lane.testing.harness import until
from tests.support.beds import making_beds


class Carrier:
    """One with so many active sessions, and room for so many more."""

    def __init__(self, sessions, room):
        self.sessions, self.capacity = sessions, room


def sessions(*carriers, moving=False):
    return [
        SimpleNamespace(carrier=carrier, moving=moving)
        for carrier in (Carrier(*numbers) for numbers in carriers)
        for _ in range(carrier.sessions)
    ]


def test_sessions_leave_for_room_and_not_to_come_back():
    assert len(leaving(sessions((128, 0), (1, 127)))) == AT_ONCE
    assert len(leaving(sessions((30, 50), (4, 100)))) == 13
    assert not leaving(sessions((UNEVEN * 20 + FEW, 0), (20, 100)))
    assert not leaving(sessions((60, 60), (1, 60))), "it is full of idle ones"
    assert not leaving(sessions((128, 0), (1, 127), moving=True))
    assert not leaving(sessions((128, 0)))


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
