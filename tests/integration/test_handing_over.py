"""Sessions that go to another process at its question, while this one is sending it all of them."""

import pytest

from lane.server.hosted import Elsewhere
from lane.testing.harness import until
from tests.support.beds import making_beds


def test_a_session_that_was_asked_for_meanwhile_goes_once(caplog):
    with making_beds(ways=("cheap",)) as make:
        bed = make()
        requests = bed.server.requests
        for app in (applications := [bed.application() for _ in range(3)]):
            app.sock.sendall(b"here")
            assert app.sock.recv(10) == b"here"
        until(lambda: len(requests._resumption.entries) == 3)
        first, second, third = (entry.key for entry in requests._resumption.entries)
        stopped = []
        for number, parcel in enumerate(requests.hand_over_all()):
            stopped.append(tuple(parcel.state["key"]))
            parcel.close()
            if number == 0:
                taken = requests.hand_over(second, 1)
                taken.close()
        assert stopped == [first, third]
        assert "could not go" not in caplog.text  # after STOP_TIME, as it has stopped already
        with pytest.raises(Elsewhere):
            requests.hand_over(third, 1)
        for app in applications:
            app.sock.close()
