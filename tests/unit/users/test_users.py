"""What accounts allow while a server runs."""

from dataclasses import replace
from itertools import count
from time import time

import pytest

from lane.errors import Closed, TargetError
from lane.testing.harness import until
from lane.users import users as module
from lane.users.account import Account
from lane.users.book import Changes
from lane.users.ending import Ending
from lane.users.presence import Here, Presence
from lane.users.source import Source
from lane.users.users import Users

ANNA = Account("anna", b"a" * 32)


class Accounts(Source):
    """Accounts of a test. `failing`: counts are not kept."""

    def __init__(self, *accounts):
        self.accounts = {account.name: account for account in accounts}
        self.counted = []
        self.failing = False

    def find(self, token, binding, peer):
        return self.accounts.get(token.decode())

    def get(self, name):
        return self.accounts.get(name)

    def start(self, told, online):
        self.told = told

    def put(self, account):
        self.accounts[account.name] = account
        self.told(Changes(0, {account.name: account}))

    def count(self, used, seen, now):
        if self.failing:
            raise Closed("a full disk")
        self.counted.append((dict(used), set(seen)))

    def spent(self, names, now):
        return dict.fromkeys(names, 77)


@pytest.fixture
def make():
    """A function that makes Users whose accounts are `users.source`, and what they were sent away for."""
    made = []

    def users(*accounts, **how):
        users = Users(Accounts(*accounts), **how)
        users.ended = []
        users.ends = lambda endings: users.ended.append(dict(endings))
        made.append(users)
        return users

    yield users
    for one in made:
        one.close()


def refused(users, visit):
    with pytest.raises(TargetError) as caught:
        users.check(visit)
    return str(caught.value)


def test_a_user_of_a_plugin_has_no_limits(make):
    users = make()
    visit = users.enter("somebody", b"1")
    users.check(visit)
    users.begin("somebody")
    users.end("somebody")
    users.leave(visit)
    assert users.census() == {"users": 0, "uncounted": 0}


def test_accounts_without_any_user_are_watched_too():
    class Empty(Accounts):
        def __len__(self):
            return 0

    source = Empty()
    Users(source).close()
    assert source.told


def test_what_an_account_forbids_is_refused_with_the_reason(make):
    users = make(ANNA)
    visit = users.enter("anna", b"1")
    users.check(visit)
    users.source.put(replace(ANNA, disabled=True))
    assert refused(users, visit) == "your account is disabled"
    users.source.put(replace(ANNA, expires=time() - 1))
    assert refused(users, visit) == "your account has expired"
    users.source.put(ANNA)
    users.check(visit)
    del users.source.accounts["anna"]
    users.source.told(Changes(0, {"anna": None}))
    assert refused(users, visit) == "your account was removed"
    users.source.put(ANNA)
    users.check(visit)
    users.source.told(Changes(0, {}, frozenset({"anna", "bob"})))
    assert users.ended == [
        {"anna": Ending.DISABLED},
        {"anna": Ending.EXPIRED},
        {"anna": Ending.REMOVED},
        {"anna": Ending.KICKED},
    ]
    users.check(visit)
    users.leave(visit)
    users.source.put(replace(ANNA, disabled=True))
    assert len(users.ended) == 4  # nobody is there
    users.begin("anna", known=True)  # a session that waits for its client
    users.source.put(replace(ANNA, disabled=True))
    users.source.put(ANNA)
    users.source.told(Changes(0, {}, frozenset({"anna"})))
    assert users.ended[4:] == [{"anna": Ending.DISABLED}, {"anna": Ending.KICKED}]


def test_an_account_expires_while_its_user_is_there(make):
    users = make(replace(ANNA, expires=time() + 0.3))
    visit = users.enter("anna", b"1")
    users.check(visit)
    until(lambda: users.ended)
    assert users.ended == [{"anna": Ending.EXPIRED}]
    assert refused(users, visit) == "your account has expired"
    users.source.put(replace(ANNA, expires=time() + 1000))
    users.check(visit)


def test_an_end_that_was_moved_ends_nobody(make):
    users = make(replace(ANNA, expires=time() + 0.2))
    users.enter("anna", b"1")
    users.source.put(replace(ANNA, expires=None))
    assert users._expiring == {}


def test_devices_are_limited_whatever_their_carriers_are(make):
    presence = Presence(2)
    users, others = (make(replace(ANNA, devices=1), here=Here(presence, n)) for n in (0, 1))
    first, again = users.enter("anna", b"phone"), others.enter("anna", b"phone")
    laptop = others.enter("anna", b"laptop")
    users.check(first)
    others.check(again)
    assert refused(others, laptop) == "your account allows 1 device at once"
    users.leave(first)
    assert refused(others, laptop) == "your account allows 1 device at once"
    others.leave(again)
    others.check(laptop)  # there is room now
    assert refused(users, users.enter("anna", b"phone")) == "your account allows 1 device at once"


def test_sessions_are_limited_over_all_workers(make):
    presence = Presence(2)
    users, others = (make(replace(ANNA, sessions=2), here=Here(presence, n)) for n in (0, 1))
    for one in (users, others):
        one.enter("anna", b"phone")
        one.begin("anna")
    for one in (users, others):
        with pytest.raises(TargetError, match="your account allows 2 sessions at once"):
            one.begin("anna")
    others.end("anna")
    users.begin("anna")


def test_a_new_key_is_told(make):
    users = make(ANNA)
    told = []
    users.rekeyed = lambda: told.append(True)
    users.enter("anna", b"1")
    users.source.put(replace(ANNA, quota=4))
    assert told == []
    users.source.put(replace(ANNA, key=b"n" * 32))
    assert told == [True]


def test_counts_that_can_not_be_kept_are_not_lost(make):
    moved = iter([{"anna": (1, 10)}, {"anna": (2, 20), "bob": (5, 5)}, {}, {}])
    users = make(ANNA, drain=lambda: next(moved))
    users.source.failing = True
    for _ in range(2):
        with pytest.raises(Closed, match="a full disk"):
            users.keep()
    assert users.census()["uncounted"] == 2
    users.source.failing = False
    users.keep()
    assert users.source.counted == [({"anna": (3, 30), "bob": (5, 5)}, {"anna", "bob"})]
    users.keep()
    assert len(users.source.counted) == 1


def test_the_number_of_users_with_counts_that_wait_is_bounded(make, monkeypatch):
    monkeypatch.setattr(module, "MOST_PENDING", 2)
    users = make(drain=lambda: dict.fromkeys("abc", (1, 1)))
    users.source.failing = True
    for _ in range(2):
        with pytest.raises(Closed):
            users.keep()
    users.source.failing = False
    users.keep()
    assert users.source.counted == [({"a": (3, 3), "b": (3, 3)}, {"a", "b"})]


def test_a_failure_to_keep_counts_is_logged_and_tried_again(make, monkeypatch, caplog):
    monkeypatch.setattr(module, "COUNT", 0.01)
    caplog.set_level("INFO")
    tries = count()
    users = make(drain=lambda: {"anna": (next(tries), 1)})
    users.source.failing = True
    until(lambda: next(tries) > 5)
    users.source.failing = False
    until(lambda: "is kept again" in caplog.text)
    assert caplog.text.count("can't be kept yet") == 1
    assert users.source.counted


def test_a_quota_counts_what_is_kept_and_what_is_not(make):
    moved = iter([{"anna": (5, 10)}, {}, {}])
    users = make(replace(ANNA, quota=100, rate=7), drain=lambda: next(moved, {}))
    told = []
    users.changed = lambda *names: told.append((names, users.limits("anna")))
    visit = users.enter("anna", b"1")
    assert told == [(("anna",), (7, 7, 100 - 77))]
    told.clear()
    users.source.failing = True
    with pytest.raises(Closed):
        users.keep()
    assert told == [(("anna",), (7, 7, 100 - 77 - 15))]
    users.source.failing = False
    users.keep()  # the source says 77 whatever it was told
    assert told[-1] == (("anna",), (7, 7, 100 - 77))
    users.check(visit)
    users.source.put(replace(ANNA, quota=70))
    assert told[-1] == (("anna",), (None, None, -7))
    assert refused(users, visit) == "your quota for this month is used up"
    users.source.put(ANNA)
    assert users.limits("anna") == (None, None, None)
    users.check(visit)
    assert users.limits("nobody") == (None, None, None)


def test_a_user_with_nothing_left_is_sent_away_before_it_is_kept(make):
    users = make(replace(ANNA, quota=100))
    visit = users.enter("anna", b"1")
    users.exhausted("anna")
    users.exhausted("anna")
    assert users.ended == [{"anna": Ending.SPENT}] * 2
    assert refused(users, visit) == "your quota for this month is used up"
    users.keep()  # another month, say
    users.check(visit)


def test_a_user_who_comes_back_has_no_new_quota(make):
    users = make(replace(ANNA, quota=70))
    assert refused(users, users.enter("anna", b"1")) == "your quota for this month is used up"


def test_the_last_counts_are_kept_at_the_end(make):
    users = make(ANNA, drain=lambda: {"anna": (1, 2)})
    users.close()
    assert users.source.counted[-1] == ({"anna": (1, 2)}, {"anna"})
