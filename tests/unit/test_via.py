"""`--via`: URLs, and handshakes with proxies that are well, unwilling, slow or no proxies at all."""

import socket as real_socket
from contextlib import suppress

import gevent
import pytest
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st

from lane.address import Address
from lane.errors import Unreachable, UsageError
from lane.via import Via

TARGET = Address("server.test", 4433)


@pytest.mark.parametrize(
    ("text", "kind", "address", "credentials"),
    [
        ("socks5://127.0.0.1", "socks5", Address("127.0.0.1", 1080), None),
        ("socks5h://proxy.test:99/", "socks5", Address("proxy.test", 99), None),
        ("http://[::1]:3128", "http", Address("::1", 3128), None),
        ("HTTP://proxy.test", "http", Address("proxy.test", 8080), None),
        ("socks5://u%40x:p%3Aw@h:1", "socks5", Address("h", 1), (b"u@x", b"p:w")),
    ],
)
def test_urls(text, kind, address, credentials):
    assert Via.parse(text) == Via(kind, address, credentials)


@pytest.mark.parametrize(
    "text",
    ["", "proxy:1080", "ftp://h", "socks5://", "socks5://h:0x1", "http://h:99999", "http://h/path",
     "http://h?q", "http://[::1", "socks5://u@h", "socks5://:p@h", "http://a b"],
)  # fmt: skip
def test_urls_that_are_none(text):
    with pytest.raises(UsageError) as caught:
        Via.parse(text)
    assert "\n" not in str(caught.value)


def test_secrets_do_not_show():
    assert "secret" not in repr(Via.parse("socks5://user:secret@h:1")) + str(Via.parse("http://u:secret@h"))
    with pytest.raises(UsageError) as caught:
        Via.parse("socks5://user:secret@h:x")
    assert "secret" not in str(caught.value)


@given(st.text(max_size=40))
def test_any_text_is_a_url_or_a_usage_error(text):
    try:
        via = Via.parse(text)
    except UsageError:
        return
    assert via.address.host


class Proxy:
    """Plays `script`: what it must be sent, what it answers, by turns; then it hangs up, or listens on."""

    def __init__(self, *script, hang_up=False):
        self.listener = socket.socket(fileno=real_socket.create_server(("127.0.0.1", 0)).detach())
        self.address = Address(*self.listener.getsockname())
        self.job = gevent.spawn(self.run, script, hang_up)

    def run(self, script, hang_up):
        with self.listener:
            sock, _ = self.listener.accept()
        with sock:
            for number, step in enumerate(script):
                if number % 2:
                    sock.sendall(step)
                else:
                    data = b""
                    while len(data) < len(step):
                        data += sock.recv(len(step) - len(data))
                    assert data == step
            with suppress(ConnectionError):
                return None if hang_up else sock.recv(100)

    def via(self, kind, credentials=None):
        return Via(kind, self.address, credentials)


ASKED = b"\5\1\0\3\x0bserver.test\x11\x51"
CONNECTED = b"\5\0\0\1\x7f\0\0\1\0\1"
HEAD = b"CONNECT server.test:4433 HTTP/1.1\r\nHost: server.test:4433\r\n"


@pytest.mark.parametrize(
    ("kind", "credentials", "script"),
    [
        ("socks5", None, [b"\5\1\0", b"\5\0", ASKED, CONNECTED]),
        ("socks5", (b"me", b"pw"), [b"\5\2\0\2", b"\5\2", b"\1\2me\2pw", b"\1\0", ASKED, CONNECTED]),
        ("socks5", (b"me", b"pw"), [b"\5\2\0\2", b"\5\0", ASKED, b"\5\0\0\3\3abc\0\1"]),
        ("socks5", None, [b"\5\1\0", b"\5\0", ASKED, b"\5\0\0\4" + bytes(18)]),
        ("http", None, [HEAD + b"\r\n", b"HTTP/1.1 200 Connection established\r\n\r\n"]),
        ("http", None, [HEAD + b"\r\n", b"HTTP/1.0 200 OK\r\nVia: x\r\nContent-Length: 5\r\n\r\n"]),
        (
            "http",
            (b"me", b"pw"),
            [HEAD + b"Proxy-Authorization: Basic bWU6cHc=\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n"],
        ),
    ],
)
def test_a_proxy_that_connects(kind, credentials, script):
    proxy = Proxy(*script)
    sock = proxy.via(kind, credentials).connect(TARGET, 10)
    sock.sendall(b"client hello")  # and not a byte before the proxy has agreed
    assert proxy.job.get() == b"client hello"
    sock.close()


@pytest.mark.parametrize(
    ("kind", "script", "words"),
    [
        ("socks5", [b"\5\1\0", b"\5\xff"], "wants another login"),
        ("socks5", [b"\5\1\0", b"\5\2"], "wants another login"),
        ("socks5", [b"\5\1\0", b"HT"], "does not speak SOCKS5"),
        ("socks5", [b"\5\1\0", b"\5\0", ASKED, b"\5\5\0\1" + bytes(6)], "refused"),
        ("socks5", [b"\5\1\0", b"\5\0", ASKED, b"\5\x77\0\1" + bytes(6)], "status 119"),
        ("socks5", [b"\5\1\0", b"\5\0", ASKED, b"\5\0\0\7" + bytes(6)], "does not speak SOCKS5"),
        ("socks5", [b"\5\1\0", b"\5"], "hung up"),
        ("http", [HEAD + b"\r\n", b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n"], "407 Proxy Auth"),
        ("http", [HEAD + b"\r\n", b"SSH-2.0-OpenSSH\r\n\r\n"], "does not speak HTTP"),
        ("http", [HEAD + b"\r\n", b"HTTP/1.1 200 OK\r\n"], "hung up"),
        ("http", [HEAD + b"\r\n", b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70000], "does not"),
    ],
)
def test_a_proxy_that_does_not(kind, script, words):
    proxy = Proxy(*script, hang_up=words == "hung up")
    with pytest.raises(Unreachable) as caught:
        proxy.via(kind).connect(TARGET, 10)
    assert words in str(caught.value)
    assert "server.test:4433" in str(caught.value)
    proxy.job.get()


def test_wrong_password():
    proxy = Proxy(b"\5\2\0\2", b"\5\2", b"\1\1u\1p", b"\1\1")
    with pytest.raises(Unreachable, match="wrong user or password"):
        proxy.via("socks5", (b"u", b"p")).connect(TARGET, 10)
    proxy.job.get()


def test_a_proxy_that_is_silent():
    proxy = Proxy(b"\5\1\0")
    with pytest.raises(Unreachable, match="no answer in time"):
        proxy.via("socks5").connect(TARGET, 0.1)
    proxy.job.get()


def test_a_proxy_that_is_not_there():
    with real_socket.create_server(("127.0.0.1", 0)) as nobody:
        address = Address(*nobody.getsockname())
    with pytest.raises(Unreachable, match="Connection refused"):
        Via("http", address).connect(TARGET, 10)
