"""The HTTP server of the admin port: small requests, one on each connection, within fixed limits.

h11 parses HTTP. A web page in an administrator's browser must not reach the port under a name of its own (DNS
rebinding). So without a secret, the Host of a request must be an address or `localhost`. At a socket of the
file system, which may be forwarded to a port, it may also be a name without a dot, which no stranger has.
"""

import hmac
import ipaddress
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import gevent
import h11
from gevent import socket as gsocket
from gevent.pool import Pool

from lane.errors import Closed
from lane.net.accept import Acceptor
from lane.net.guesses import Guesses
from lane.supervisor import report, supervise

BACKLOG = 16
MOST_CONNECTIONS = 32
"""Connections at once. Further ones are told to come back."""
MAX_HEAD = 16384
"""Bytes of the longest request without its body."""
MAX_BODY = 1 << 20
"""Bytes of the longest body."""
READ_TIME = 10.0
"""Seconds in which a request must arrive."""
WRITE_TIME = 30.0
"""Seconds in which an answer must be taken."""
LAST_TIME = 1.0
"""Seconds for the last answers when the port is closed."""
MAX_QUERY = 64
"""The most parameters of a query."""

log = logging.getLogger("lane.admin")


@dataclass(frozen=True, slots=True)
class Request:
    """A request. Names of headers are in lower case."""

    method: str
    path: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    parameters: tuple[str, ...] = ()
    """The parts of the path that a route leaves open."""


@dataclass(frozen=True, slots=True)
class Response:
    """An answer."""

    body: bytes
    status: int = HTTPStatus.OK
    kind: str = "text/plain; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()


class Refusal(Exception):
    """A request that is refused with a status and a text."""

    def __init__(self, status: int, text: str, *headers: tuple[str, str]) -> None:
        super().__init__(text)
        self.response = Response(f"{text}\n".encode(), status, headers=headers)


@dataclass(frozen=True, slots=True)
class Route:
    """What answers a request. It may raise Refusal."""

    handle: Callable[[Request], Response]
    secret: bool | None = True
    """Whether the secret is needed: None: if there is one; False: never."""


Routes = Mapping[tuple[str, str], Route]
"""Routes by method and path. A part of a path may be `*`, which stands for any one."""


class WebServer:
    """Answers at `listeners` by `routes`. `secret`: see `lane.config`; may be replaced at any time.

    `trusted`: only those who may do anything can connect, as to a socket of their own. They need no secret.
    """

    def __init__(
        self, listeners: Sequence[Any], routes: Routes, secret: str | None, *, trusted: bool = False
    ) -> None:
        self.secret = secret
        self._routes = routes
        self._trusted = trusted
        self._listeners = [gsocket.socket(fileno=one.detach()) for one in listeners]
        self._guesses = Guesses("admin secret")
        self._pool = Pool(MOST_CONNECTIONS)
        self._acceptors: list[Any] = []
        self.resume()

    @property
    def port(self) -> int:
        """Its port; 0 for a socket of the file system."""
        name = self._listeners[0].getsockname()
        return int(name[1]) if isinstance(name, tuple) else 0

    def pause(self) -> None:
        """Take no more requests: another process does."""
        for acceptor in self._acceptors:
            acceptor.kill(block=False)

    def resume(self) -> None:
        """Take requests again."""
        self._acceptors = [supervise("the admin port", self._accept, one) for one in self._listeners]

    def close(self) -> None:
        """Stop. What was asked before is answered, for LAST_TIME seconds at most."""
        for acceptor in self._acceptors:
            acceptor.kill(block=False)
        for listener in self._listeners:
            listener.close()
        self._pool.join(LAST_TIME)
        self._pool.kill(block=False)

    def _accept(self, listener: gsocket.socket) -> None:
        acceptor = Acceptor(listener, "connections to the admin port")
        with suppress(Closed):
            while True:
                sock, peer = acceptor.accept()
                host = str(peer[0]) if isinstance(peer, tuple) else ""
                if self._pool.full():
                    sock.close()
                else:
                    self._pool.spawn(self._serve, sock, host)

    def _serve(self, sock: gsocket.socket, host: str) -> None:
        with sock, suppress(OSError, h11.LocalProtocolError):  # the other side is gone or too slow
            parser = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD)
            request: Request | None = None
            try:
                with gevent.Timeout(READ_TIME, Refusal(HTTPStatus.REQUEST_TIMEOUT, "no request in time")):
                    request = _read(sock, parser)
                response = self._answer(request, host)
            except Refusal as refusal:
                response = refusal.response
            except h11.RemoteProtocolError as error:
                response = Response(f"{error}\n".encode(), error.error_status_hint)
            except Exception as error:
                report("an answer of the admin port", error)
                response = Response(
                    b"this failed; the log has the reason\n", HTTPStatus.INTERNAL_SERVER_ERROR
                )
            with gevent.Timeout(WRITE_TIME, TimeoutError()):
                _write(sock, parser, response, bare=request is not None and request.method == "HEAD")

    def _answer(self, request: Request, host: str) -> Response:
        """The answer to a request from `host`. Raises Refusal."""
        method = "GET" if request.method == "HEAD" else request.method
        found = {
            known: (route, parts)
            for (known, path), route in self._routes.items()
            if (parts := _match(path, request.path)) is not None
        }
        route, parts = found.get(method, (None, ()))
        self._check(request, host, None if route is None else route.secret)
        if route is None and found:
            allow = ", ".join(sorted(found))
            raise Refusal(HTTPStatus.METHOD_NOT_ALLOWED, f"use {allow}", ("Allow", allow))
        if route is None:
            raise Refusal(HTTPStatus.NOT_FOUND, "there is no such path")
        return route.handle(replace(request, parameters=parts))

    def _check(self, request: Request, host: str, needed: bool | None) -> None:
        """Raises Refusal for whoever may not ask."""
        name = request.headers.get("host", "")
        known = _is_literal(name) or (self._trusted and "." not in name)
        if (self.secret is None or self._trusted) and not known:
            raise Refusal(HTTPStatus.FORBIDDEN, "ask by an address, or by localhost")
        if needed is False or self._trusted or (needed is None and self.secret is None):
            return
        if self.secret is None:
            raise Refusal(HTTPStatus.FORBIDDEN, "this needs a secret: start lane with --admin-secret")
        given = request.headers.get("authorization", "")
        given = given[7:] if given[:7].lower() == "bearer " else given
        if not hmac.compare_digest(given.encode(), self.secret.encode()):
            if given:
                self._guesses.pause(host, self._guesses.wrong(host))
            raise Refusal(HTTPStatus.UNAUTHORIZED, "unauthorized", ("WWW-Authenticate", "Bearer"))


def _match(pattern: str, path: str) -> tuple[str, ...] | None:
    """The parts of `path` that stand for `*`; None if it does not match."""
    wanted, given = pattern.split("/"), path.split("/")
    if len(wanted) != len(given):
        return None
    if not all(one in ("*", other) and other for one, other in zip(wanted[1:], given[1:], strict=True)):
        return () if pattern == path else None
    return tuple(unquote(other) for one, other in zip(wanted, given, strict=True) if one == "*")


def _is_literal(host: str) -> bool:
    """Whether a Host header names an address or this machine."""
    try:
        name = urlsplit(f"//{host}").hostname or ""
        return name == "localhost" or bool(ipaddress.ip_address(name))
    except ValueError:
        return False


def _read(sock: gsocket.socket, parser: h11.Connection) -> Request:
    """Read a request. Raises Refusal, h11.RemoteProtocolError, OSError."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            if parser.they_are_waiting_for_100_continue:
                go_on = h11.InformationalResponse(status_code=100, headers=[])
                sock.sendall(parser.send(go_on) or b"")
            parser.receive_data(sock.recv(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
            if len(body) > MAX_BODY:
                raise Refusal(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {MAX_BODY} bytes")
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            return _request(head, bytes(body))
        else:  # the end of the connection
            raise ConnectionResetError


def _request(head: h11.Request, body: bytes) -> Request:
    try:
        target = urlsplit(head.target.decode())
        query = dict(parse_qsl(target.query, keep_blank_values=True, max_num_fields=MAX_QUERY))
    except ValueError:
        raise Refusal(HTTPStatus.BAD_REQUEST, "malformed target") from None
    headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
    return Request(head.method.decode(), target.path, query, headers, body)


def _write(sock: gsocket.socket, parser: h11.Connection, response: Response, *, bare: bool) -> None:
    if parser.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
        return
    headers = [
        ("Content-Type", response.kind),
        ("Content-Length", str(len(response.body))),
        ("Cache-Control", "no-store"),
        ("X-Content-Type-Options", "nosniff"),
        ("Connection", "close"),
        *response.headers,
    ]
    reason = HTTPStatus(response.status).phrase
    head = parser.send(h11.Response(status_code=response.status, headers=headers, reason=reason)) or b""
    sock.sendall(head + (b"" if bare else response.body))
    sock.shutdown(gsocket.SHUT_WR)
