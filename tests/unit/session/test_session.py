"""A session and its owners: all who want to know of its end are told, once."""

from lane.session.session import Session
from lane.session.window import Budget


def test_each_that_asked_hears_of_the_end_once_and_who_asks_later_at_once():
    session, heard = Session(1 << 20, 1 << 20, Budget(1 << 30)), []
    for name in ("passage", "port"):
        session.when_over(lambda name=name: heard.append(name))
    assert heard == []
    session.reset()
    session.reset()
    assert heard == ["passage", "port"]
    session.when_over(lambda: heard.append("late"))
    assert heard == ["passage", "port", "late"]
