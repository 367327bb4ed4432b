"""The server's side of HTTP CONNECT (RFC 9110 section 9.3.6), without I/O.

Browsers and tools that don't speak SOCKS speak this. h11 judges the request's head once all of it is
there; finding its end is done here, because h11 applies its size limit only to heads that come in
pieces, and because what stands behind the head belongs to the target and not to an HTTP parser.
"""

import base64
import binascii
import re
from http import HTTPStatus

import h11

from lane.address import Address
from lane.errors import Status, UsageError
from lane.proto.events import Credentials, Event, Refusal, Request, credentials_match

MAX_HEAD = 16384
"""The longest request head, bytes, its blank line included."""
MAX_TARGET = 1 + 255 + 1 + 1 + 5
"""The longest `[host]:port`, bytes."""

_HEAD_END = re.compile(rb"\n\r?\n")
_CHALLENGE = 'Proxy-Authenticate: Basic realm="lane", charset="UTF-8"'
_STATUS = {
    Status.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    Status.TTL_EXPIRED: HTTPStatus.GATEWAY_TIMEOUT,
    Status.COMMAND_NOT_SUPPORTED: HTTPStatus.NOT_IMPLEMENTED,
    Status.ADDRESS_NOT_SUPPORTED: HTTPStatus.BAD_REQUEST,
}  # all others: 502


class HttpConnect:
    """A `lane.proto.events.Codec`. It answers everything that is wrong, so it never raises."""

    def __init__(self, credentials: Credentials | None = None) -> None:
        self._credentials = credentials
        self._buffer = bytearray()
        self._searched = 0  # no head ends before it: single bytes must not cost a search of all
        self._done = False

    @property
    def trailing_data(self) -> bytes:
        """The bytes received behind the head."""
        return bytes(self._buffer)

    def receive(self, data: bytes) -> None:
        """Take bytes from the application."""
        self._buffer += data

    def next_event(self) -> Event | None:
        """The Request, or a Refusal with the response to write; None while the head is not complete."""
        if self._done:
            return None
        end = _HEAD_END.search(self._buffer, self._searched, MAX_HEAD)
        if end is None and len(self._buffer) < MAX_HEAD:
            self._searched = max(0, len(self._buffer) - 2)
            return None
        self._done = True
        if end is None:
            return _refusal(
                HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, f"a request head is at most {MAX_HEAD} bytes"
            )
        head = bytes(self._buffer[: end.end()])
        del self._buffer[: end.end()]
        return self._judge(head)

    def accepted(self, bound: Address) -> bytes:
        """The response after which the tunnel begins. HTTP has no field for `bound`."""
        return b"HTTP/1.1 200 Connection established\r\n\r\n"

    def refused(self, status: Status, text: str) -> bytes:
        """The response that `status` means, with the text as its body."""
        return _response(_STATUS.get(status, HTTPStatus.BAD_GATEWAY), text)

    def _judge(self, head: bytes) -> Event:
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(head)
        try:
            request = parser.next_event()
        except h11.RemoteProtocolError:
            return _refusal(HTTPStatus.BAD_REQUEST, "malformed HTTP request")
        assert isinstance(request, h11.Request)
        if self._credentials is not None:
            given = _basic(dict(request.headers).get(b"proxy-authorization", b""))
            if given is None or not credentials_match(given, self._credentials):
                text = "this proxy needs a user and a password"
                return _refusal(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, text, _CHALLENGE)
        if request.method != b"CONNECT":
            return _refusal(HTTPStatus.NOT_IMPLEMENTED, "only CONNECT is supported for now")
        if len(request.target) > MAX_TARGET:
            return _refusal(HTTPStatus.BAD_REQUEST, f"a target is at most {MAX_TARGET} bytes")
        try:
            target = Address.parse(request.target.decode("ascii"))
        except UsageError as error:
            return _refusal(HTTPStatus.BAD_REQUEST, str(error))
        if not (target.host and target.port):
            return _refusal(HTTPStatus.BAD_REQUEST, "the target has no host or no port")
        return Request(target)


def _basic(value: bytes) -> Credentials | None:
    """What a Basic authorization (RFC 7617) says; None if it is none."""
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return user, password


def _refusal(status: HTTPStatus, text: str, *fields: str) -> Refusal:
    return Refusal(_response(status, text, *fields))


def _response(status: HTTPStatus, text: str, *fields: str) -> bytes:
    """A whole response; `text` is its body, so nothing in it can be taken for a header field."""
    body = f"{text}\n".encode(errors="replace")
    lines = (
        f"HTTP/1.1 {status} {status.phrase}",
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
        "Connection: close",
        *fields,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body
