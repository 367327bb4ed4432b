"""Deadlines: what waits gets the error in time, and what is done in time never hears of it."""

import gevent
import pytest
from gevent.event import Event

from lane.deadline import deadline
from lane.errors import Closed


def never():
    raise AssertionError("nobody is late")


def test_what_waits_gets_the_error():
    with pytest.raises(Closed, match="too slow"), deadline(0.001, lambda: Closed("too slow")):
        Event().wait(10)


def test_the_first_of_several_ends_the_wait():
    with deadline(10, never), pytest.raises(Closed, match="inner"), deadline(0.001, lambda: Closed("inner")):
        Event().wait(10)


def test_what_is_done_in_time_hears_nothing():
    with deadline(0.001, never):
        pass
    with pytest.raises(ZeroDivisionError), deadline(0.001, never):
        raise ZeroDivisionError
    gevent.sleep(0.01)  # the errors would be thrown here
