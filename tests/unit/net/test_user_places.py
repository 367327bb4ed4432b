"""Places that are shared out: who gets one, who waits, and that none is lost."""

import gevent
import pytest
from gevent.event import Event

from lane.errors import Status, TargetError
from lane.net.user_places import UserPlaces


@pytest.fixture(autouse=True)
def _watchdog():
    with gevent.Timeout(30, AssertionError("the test hangs")):
        yield


class Hall:
    """Users who take places, and stay until they are sent away."""

    def __init__(self, most=8, waiting=100):
        self.shares = UserPlaces(most, waiting, "things are done")
        self.inside = []
        self.jobs = []

    def enter(self, user, count=1):
        came = [(user, Event()) for _ in range(count)]
        self.jobs += [gevent.spawn(self._stay, one) for one in came]
        gevent.idle()
        return came

    def _stay(self, one):
        with self.shares.place(one[0]):
            self.inside.append(one)
            try:
                one[1].wait()
            finally:
                self.inside.remove(one)

    def users(self):
        gevent.idle()
        return "".join(sorted(user for user, _ in self.inside))


def test_nobody_takes_more_than_half_of_what_is_left():
    hall = Hall()
    hall.enter("a", 20)
    assert hall.users() == "aaaa"
    hall.enter("b", 20)
    assert hall.users() == "aaaabb"
    hall.enter("c", 20)
    assert hall.users() == "aaaabbc"
    gevent.killall(hall.jobs)
    assert len(hall.shares) == 0
    assert not hall.shares._taken
    assert not hall.shares._waiting
    assert not hall.shares._line


def test_who_waits_is_next_in_his_order_where_he_may():
    hall = Hall(most=4)
    first, second, third, _ = hall.enter("a", 4)
    assert hall.inside == [first, second]
    first[1].set()
    gevent.idle()
    assert hall.inside == [second, third]
    (b,) = hall.enter("b")
    assert hall.users() == "aab"
    second[1].set()
    assert hall.users() == "aab"
    b[1].set()
    assert hall.users() == "aa"
    gevent.killall(hall.jobs)


def test_who_leaves_the_line_leaves_nothing():
    hall = Hall(most=2)
    hall.enter("a", 3)
    hall.jobs[1].kill()
    assert hall.users() == "a"
    hall.inside[0][1].set()
    assert hall.users() == "a"  # the one behind him
    gevent.killall(hall.jobs)
    assert len(hall.shares) == 0


def test_who_is_killed_when_his_turn_comes_passes_it_on():
    hall = Hall(most=2)
    with hall.shares.place("a"):
        _, last = hall.enter("a", 2)
    hall.jobs[0].kill(block=False)  # it has a place now, and has not run yet
    gevent.idle()
    assert hall.inside == [last]
    gevent.killall(hall.jobs)
    assert len(hall.shares) == 0


def test_the_line_is_bounded_for_each_user():
    hall = Hall(most=2, waiting=3)
    hall.enter("a", 4)
    with (
        pytest.raises(TargetError, match="too many things are done at once") as caught,
        hall.shares.place("a"),
    ):
        pass
    assert caught.value.status is Status.FAILURE
    hall.enter("b", 1)
    gevent.killall(hall.jobs)
    with hall.shares.place("a"):
        pass


def test_places_that_other_processes_have_taken_count():
    elsewhere = 0
    places = UserPlaces(8, 0, "places", lambda: elsewhere)
    for _ in range(2):
        places.take("first")
    elsewhere = 4
    with pytest.raises(TargetError):
        places.take("first")  # it has 2, and 2 are left
    places.take("second")
    elsewhere = 0
    places.take("first")
