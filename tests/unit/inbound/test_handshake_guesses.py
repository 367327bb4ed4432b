"""Wrong passwords are answered ever later, take nobody's place meanwhile, and lock nobody out."""

import base64
import time

import pytest
from gevent import socket

from lane.net import guesses as guesses_module
from lane.testing.harness import until
from tests.support.inbound import (
    CONNECT,
    HEAD,
    HTTP_SUCCESS,
    LOGIN,
    SUCCESS,
    dial,
    receive,
    running,
    to_end,
    to_reset,
)


def socks(password):
    return b"\x05\x01\x02\x01\x04user%c%b" % (len(password), password) + CONNECT


def http(password):
    return HEAD[:-2] + b"Proxy-Authorization: Basic " + base64.b64encode(b"user:" + password) + b"\r\n\r\n"


WAYS = pytest.mark.parametrize(
    ("ask", "refused", "welcome"),
    [(socks, b"\x05\x02\x01\x01", b"\x05\x02\x01\x00" + SUCCESS), (http, b"HTTP/1.1 407 ", HTTP_SUCCESS)],
)


@pytest.fixture(autouse=True)
def _no_easing(monkeypatch):
    monkeypatch.setattr(guesses_module, "EASE_TIME", float("inf"))


def answer(inbound, data):
    with dial(inbound) as sock:
        sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)
        return to_end(sock)


@pytest.fixture
def short(monkeypatch):
    """Delays of 20 ms and 40 ms at most."""
    monkeypatch.setattr(guesses_module, "FIRST", 0.02)
    monkeypatch.setattr(guesses_module, "LONGEST", 0.04)


@WAYS
def test_wrong_ones_take_ever_longer_and_a_right_one_gets_in(ask, refused, welcome, short, caplog):
    caplog.set_level("INFO", "lane.guesses")
    with running(credentials=LOGIN) as inbound:
        began = time.monotonic()
        for _ in range(6):
            assert answer(inbound, ask(b"wrong")).startswith(refused)
        assert time.monotonic() - began >= 0.02 + 4 * 0.04  # the first is answered at once
        assert answer(inbound, ask(b"secret")) == welcome
    assert [record.getMessage() for record in caplog.records] == ["wrong user or password from 127.0.0.1"]


@WAYS
def test_the_answers_to_right_and_wrong_ones_come_as_late(ask, refused, welcome, monkeypatch):
    monkeypatch.setattr(guesses_module, "FIRST", 0.05)
    with running(credentials=LOGIN) as inbound:
        answer(inbound, ask(b"wrong"))
        began = time.monotonic()
        assert answer(inbound, ask(b"secret")) == welcome
        assert time.monotonic() - began >= 0.05


@WAYS
def test_guesses_that_wait_take_no_place(ask, refused, welcome, monkeypatch):
    monkeypatch.setattr(guesses_module, "FIRST", 60.0)
    monkeypatch.setattr(guesses_module, "LONGEST", 60.0)
    monkeypatch.setattr(guesses_module, "MOST_OF_ONE", 5)
    with running(credentials=LOGIN, max_sessions=2) as inbound:
        answer(inbound, ask(b"wrong"))
        guessers = [dial(inbound) for _ in range(10)]
        for sock in guessers:
            sock.sendall(ask(b"wrong"))
        until(lambda: inbound.sessions == 0)
        for sock in guessers[:5]:  # too many wait: the oldest get no answer
            assert to_reset(sock) in (b"", b"\x05\x02")
        monkeypatch.setattr(guesses_module, "FIRST", 0.0)
        assert answer(inbound, ask(b"secret")) == welcome
        for sock in guessers:
            sock.close()


def test_who_gives_no_password_has_not_guessed(caplog):
    caplog.set_level("INFO", "lane.guesses")
    with running(credentials=LOGIN) as inbound:
        for data in (HEAD, b"\x05\x01\x00", b"\x04\x01\x01\xbb\x00\x00\x00\x01me\x00a\x00"):
            answer(inbound, data)
    assert not caplog.records


def test_a_guess_behind_an_exchange_is_one_too(short, caplog):
    """On a connection that may go on after a 407 without credentials."""
    caplog.set_level("INFO", "lane.guesses")
    with running(credentials=LOGIN) as inbound, dial(inbound) as sock:
        sock.sendall(HEAD)
        assert receive(sock, 12) == b"HTTP/1.1 407"
        sock.sendall(http(b"wrong"))
        assert b"\r\nConnection: close\r\n" in to_end(sock)
    assert len(caplog.records) == 1
