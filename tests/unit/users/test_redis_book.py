"""Accounts in a real Redis, which may be killed, and may forget."""

import errno
import signal
from datetime import UTC, datetime

import pytest

from lane.errors import ConfigError, UsageError
from lane.supervisor import supervise
from lane.testing.harness import until
from lane.users import redis_book as module
from lane.users import redis_exchange, unsent
from lane.users.account import Account
from lane.users.book import Changes, Used
from lane.users.directory import SharedDirectory
from lane.users.redis_book import RedisBook
from tests.support.descriptors import opened
from tests.support.processes import lasting_port
from tests.support.redis_server import RedisServer

ANNA = Account(
    "Zoë 🎉", b"a" * 32, expires=5.5, quota=7, rate=3, sessions=2, devices=1, note="n", created=1.0
)
BOB = Account("bob", b"b" * 32, created=2.0)
NOW = datetime.now(UTC).timestamp()


@pytest.fixture
def server(tmp_path):
    with RedisServer(tmp_path / "redis", lasting_port()) as server:
        yield server


@pytest.fixture
def book(server, tmp_path):
    book = RedisBook(server.url, tmp_path)
    yield book
    book.close()


def test_accounts_are_kept_as_they_are(server, book):
    book.add(BOB)
    book.add(ANNA)
    other = RedisBook(server.url)
    assert other.all() == [ANNA, BOB]
    assert other.first() == other.get(ANNA.name) == ANNA
    assert other.change(ANNA.name, disabled=True).disabled
    assert book.get(ANNA.name).disabled
    other.remove(ANNA.name)
    assert book.all() == [BOB]
    other.close()


def test_what_is_not_there_is_an_error_of_the_user(book):
    book.add(ANNA)
    with pytest.raises(UsageError, match="already"):
        book.add(ANNA)
    for call in (book.remove, book.change, book.kick):
        with pytest.raises(UsageError, match="there is no user bob"):
            call("bob")


def test_servers_are_told_what_has_changed(book, monkeypatch):
    assert book.changes(None) == Changes(0, {}, whole=True)
    assert book.changes(0) is None
    book.add(ANNA)
    book.add(BOB)
    book.remove("bob")
    book.kick(ANNA.name)
    assert book.changes(0) == Changes(4, {ANNA.name: ANNA, "bob": None}, frozenset({ANNA.name}))
    assert book.changes(4) is None
    monkeypatch.setattr(module, "MOST_EVENTS", 2)
    for quota in range(5):
        book.change(ANNA.name, quota=quota)
    assert not book.changes(7).whole
    assert book.changes(6) == Changes(9, {ANNA.name: book.get(ANNA.name)}, whole=True)


def test_usage_of_all_servers_is_one(server, book):
    book.add(ANNA)
    other = RedisBook(server.url)
    book.count({ANNA.name: (1, 10), "nobody": (5, 5)}, [ANNA.name], NOW)
    other.count({ANNA.name: (2, 20)}, [], NOW)
    assert book.spent(NOW, [ANNA.name, "nobody"]) == {ANNA.name: Used(3, 30)}
    assert [*other.days(ANNA.name).values()] == [Used(3, 30)]
    assert other.records(NOW) == other.records(NOW, ANNA.name) == [(ANNA, NOW, Used(3, 30))]
    book.remove(ANNA.name)
    book.add(ANNA)
    assert book.records(NOW) == [(ANNA, None, Used(0, 0))]
    other.close()


def test_counts_wait_while_redis_is_down_and_count_once(server, book, caplog, tmp_path):
    book.add(ANNA)
    book.count({ANNA.name: (1, 10)}, [], NOW)
    server.kill()
    for _ in range(5):
        book.count({ANNA.name: (1, 10)}, [ANNA.name], NOW)
    assert caplog.text.count("what users have used waits") == 1
    assert len(book._unsent.batches) == 2  # one that may have arrived, and one for all that came after it
    assert len([*tmp_path.glob("usage-*")]) == 1
    server.start()
    book.count({}, [], NOW)
    assert book.spent(NOW, [ANNA.name]) == {ANNA.name: Used(6, 60)}
    assert [*tmp_path.glob("usage-*")] == []


def unsent_files():
    return sum("/usage-" in what for _, what in opened())


def test_counts_that_can_go_nowhere_stay_in_memory_and_count_once(
    server, book, caplog, monkeypatch, tmp_path
):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    book.add(ANNA)
    server.kill()
    with monkeypatch.context() as patches:
        patches.setattr(unsent.os, "fsync", full)
        before = unsent_files()
        for _ in range(5):
            book.count({ANNA.name: (1, 10)}, [], NOW)
        assert unsent_files() == before == 0
    assert [*tmp_path.glob("usage-*")] == []
    assert caplog.text.count("is in memory only") == 1
    assert "Traceback" not in caplog.text
    server.start()
    book.count({}, [], NOW)
    assert book.spent(NOW, [ANNA.name]) == {ANNA.name: Used(5, 50)}


def test_a_batch_that_arrived_without_an_answer_counts_once(book, monkeypatch):
    book.add(ANNA)
    evaluate = book._redis.eval

    def answerless(*arguments):
        evaluate(*arguments)
        raise module.redis.ConnectionError("cut")

    monkeypatch.setattr(book._redis, "eval", answerless)
    book.count({ANNA.name: (1, 10)}, [], NOW)
    book.count({ANNA.name: (1, 10)}, [], NOW)
    monkeypatch.setattr(book._redis, "eval", evaluate)
    book.count({ANNA.name: (1, 10)}, [], NOW)
    assert book.spent(NOW, [ANNA.name]) == {ANNA.name: Used(3, 30)}


def test_counts_of_a_server_that_was_killed_with_redis_are_not_lost(server, book, tmp_path):
    book.add(ANNA)
    server.kill()
    book.count({ANNA.name: (1, 10)}, [], NOW)
    book.count({ANNA.name: (1, 10)}, [], NOW)
    living = RedisBook(server.url, tmp_path)
    assert living._unsent.batches == []  # the first one lives
    book._unsent._let_go()  # as its end does
    heir = RedisBook(server.url, tmp_path)
    server.start()
    heir.count({}, [], NOW)
    assert heir.spent(NOW, [ANNA.name]) == {ANNA.name: Used(2, 20)}
    assert [*tmp_path.glob("usage-*")] == []


def test_a_redis_that_forgets_stops_nobody(tmp_path, caplog):
    with RedisServer(tmp_path / "redis", lasting_port(), keeps=False) as server:
        book = RedisBook(server.url)
        for account in (ANNA, BOB):
            book.add(account)
        directory = SharedDirectory(book, "here")
        told = []
        directory.start(told.append, lambda _: True)
        server.kill()
        with pytest.raises(ConfigError, match=r"redis at 127\.0\.0\.1"):
            directory.refresh()
        assert directory.get("bob") == BOB
        server.start()
        directory.refresh()
        directory.refresh()
        assert told == []
        assert "those that are known here are put back" in caplog.text
        assert book.all() == [ANNA, BOB]
        book.remove("bob")
        directory.refresh()
        assert directory.get("bob") is None
        directory.close()


def test_processes_hear_what_others_want_until_they_are_gone(server, book, monkeypatch):
    other = RedisBook(server.url)
    monkeypatch.setattr(redis_exchange, "TOLD_FOR", 0.3)
    assert other.exchange("there/2", {ANNA.name: (10.4, 20.6), 'a"\\b': (1.0, 2.0)}) != {}
    assert book.exchange("here/1", {}) == {
        "here/1": {},
        "there/2": {ANNA.name: [10, 21], 'a"\\b': [1, 2]},
    }
    until(lambda: book.exchange("here/1", {}) == {"here/1": {}})
    assert book._redis.smembers("lane:processes") == {"lane:process:here/1"}
    server.kill()
    with pytest.raises(ConfigError):
        book.exchange("here/1", {})
    other.close()


def test_an_end_in_the_middle_of_a_call_is_no_fault(server, caplog):
    directory = SharedDirectory(RedisBook(server.url), "here")
    server.process.send_signal(signal.SIGSTOP)
    waiting = supervise("a test", directory.share, {}, {})
    until(directory.book._turn.locked)
    waiting.kill(block=False)
    directory.close()
    server.process.send_signal(signal.SIGCONT)
    assert waiting.ready()
    assert caplog.text == ""


@pytest.mark.parametrize("url", ["redis://h:99999/0", "redis://h:x/0"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(UsageError, match="malformed URL"):
        RedisBook(url)


def test_no_redis_is_one_clear_error(tmp_path):
    book = RedisBook(f"redis://:secret@127.0.0.1:{lasting_port()}/0")
    with pytest.raises(ConfigError, match=r"redis at 127\.0\.0\.1: .*refused") as caught:
        book.all()
    assert "secret" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_account_that_is_none_is_one_clear_error(book):
    book._redis.hset("lane:accounts", "eve", '{"name": "eve"}')
    with pytest.raises(ConfigError, match="has an account that is none"):
        book.all()
