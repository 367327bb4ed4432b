import pytest

from lane.taken import Taken


def test_what_a_session_has_taken_is_given_back_in_the_opposite_order_whatever_fails():
    given = []

    def fail():
        given.append("fail")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), Taken() as taken:
        taken.then(given.append, "first")
        taken.then(fail)
        taken.then(given.append, "last")
        with taken.move() as moved:
            moved.then(given.append, "moved")
            raise ZeroDivisionError
    assert given == ["moved", "last", "fail", "first"]
