"""Devices and sessions by user, over several workers."""

import os

import pytest

from lane.users.presence import BUCKETS, PLACES, Here, Presence, digest


def test_workers_count_together():
    presence = Presence(2)
    one, other = Here(presence, 0), Here(presence, 1)
    one.enter("anna", b"phone")
    other.enter("anna", b"phone")
    other.enter("anna", b"laptop")
    for _ in range(3):
        one.begin("anna")
    other.begin("anna")
    other.begin("bob")
    assert one.sessions("anna") == other.sessions("anna") == 4
    assert presence.online() == {digest("anna"): (4, 2), digest("bob"): (1, 0)}
    assert one.room("anna", b"phone", 2)
    assert not one.room("anna", b"tablet", 2)
    assert other.room("anna", b"tablet", 3)
    other.leave("anna", b"laptop")
    assert one.room("anna", b"tablet", 2)
    for _ in range(3):
        one.end("anna")
    one.leave("anna", b"phone")
    other.leave("anna", b"phone")
    other.end("anna")
    other.end("bob")
    assert presence.online() == {}
    assert one.room("anna", b"any", 1)


def test_what_a_dead_worker_had_is_forgotten():
    presence = Presence(2)
    Here(presence, 0).begin("anna")
    there = Here(presence, 1)
    assert there.sessions("anna") == 1
    presence.clear(0)
    assert there.sessions("anna") == 0
    Here(presence, 0).begin("anna")
    assert Here(presence, 0).sessions("anna") == 0  # it begins anew


def test_a_user_with_more_devices_than_there_is_room_for_counts_in_its_own_worker():
    presence = Presence(2)
    one, other = Here(presence, 0), Here(presence, 1)
    for number in range(PLACES + 10):
        one.enter("anna", str(number).encode())
    assert not one.room("anna", b"new", PLACES + 10)
    assert other.room("anna", b"new", PLACES)
    assert presence.online() == {digest("anna"): (0, PLACES - 1)}  # one is for the sessions
    for number in range(PLACES + 10):
        one.leave("anna", str(number).encode())
    assert presence.online() == {}


def test_the_tables_have_room_for_many_users():
    here = Here(presence := Presence())
    for number in range(BUCKETS * PLACES // 3):
        here.begin(f"user {number}")
    assert len(presence.online()) == BUCKETS * PLACES // 3
    assert here.sessions("user 7") == 1


def test_a_server_and_the_next_one_count_together():
    first = Presence(2, lends=True)
    if not first.lend():
        pytest.skip("there is no memfd here")
    old = Here(first, 1)
    old.enter("anna", b"0")
    old.begin("anna")
    for generation in range(3):
        descriptor, half = first.lend()
        second = Presence(2, (descriptor, half))
        new = Here(second, 1)
        new.enter("anna", str(generation + 1).encode())
        new.begin("anna")
        assert old.sessions("anna") == new.sessions("anna") == 2
        assert not new.room("anna", b"another", 2)
        assert new.room("anna", str(generation).encode(), 2)
        assert first.online() == second.online() == {digest("anna"): (2, 2)}
        second.clear(1, other=True)  # the old one has ended
        assert second.online() == {digest("anna"): (1, 1)}
        first, old = second, new
    assert Presence(3, first.lend()).lend() is None  # of another number of workers
    os.close(descriptor)
