"""Forwarding of HTTP/1.1 messages (RFC 9110, RFC 9112), without I/O: fields and bodies.

Fields for one connection (RFC 9110 section 7.6.1) are removed. The framing of a message is written again, so
that the next reader must see the same end. h11 parses heads and chunks. Bodies with a known length, and
bodies that end with the connection, are forwarded unparsed, since a parser would copy every byte. No Via
field is added: it would reveal the proxy to the target.
"""

from collections.abc import Iterable
from typing import Protocol

import h11

from lane.errors import ProtocolError
from lane.proto.events import ForwardRequest
from lane.proto.http_heads import HeadBuffer, mended

MAX_ANSWER_HEAD = 65536
"""The longest head of a response, bytes. Trailer sections have the same limit."""
UPGRADE = b"websocket"
"""The only protocol to which an exchange may be upgraded. h2c would only hide requests."""

Fields = list[tuple[bytes, bytes]]

_HOP = frozenset(
    b"connection proxy-connection keep-alive te transfer-encoding content-length upgrade proxy-authorization"
    b" proxy-authenticate proxy-authentication-info http2-settings".split()
)  # Content-Length is end-to-end, but is written again too


class Body(Protocol):
    """The body of one message, as it is received and forwarded."""

    rest: bytes
    """The bytes received after it."""

    @property
    def done(self) -> bool:
        """Whether the body is complete."""

    def receive(self, data: bytes) -> bytes:
        """The bytes to forward for `data`. Raises ProtocolError."""

    def end(self) -> None:
        """Note the end of the connection. Raises ProtocolError if the body is incomplete."""


class Length:
    """A body of `left` bytes."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.rest = b""

    @property
    def done(self) -> bool:
        """Whether the body is complete."""
        return not self.left

    def receive(self, data: bytes) -> bytes:
        """`data`, up to the end of the body."""
        if len(data) <= self.left:
            self.left -= len(data)
            return data
        data, self.rest = data[: self.left], data[self.left :]
        self.left = 0
        return data

    def end(self) -> None:
        """Raises ProtocolError if bytes are missing."""
        if self.left:
            raise ProtocolError(f"the end of the connection, {self.left} bytes before that of the body")


class UntilClose:
    """A body that ends with its connection."""

    rest = b""

    def __init__(self) -> None:
        self.done = False

    def receive(self, data: bytes) -> bytes:
        """All of `data`."""
        return data

    def end(self) -> None:
        """The end is always valid."""
        self.done = True


class Chunked:
    """A chunked body, whose head `parser` has read. `framed`: it is forwarded in chunks too."""

    def __init__(self, parser: h11.Connection, framed: bool) -> None:
        self._parser = parser
        self._framed = framed
        self.done = False
        self.rest = b""

    def receive(self, data: bytes) -> bytes:
        """The content of `data`, as one chunk if it is framed. Raises ProtocolError."""
        if data:  # b"" would mean the end to h11
            self._parser.receive_data(data)
        pieces = []
        while isinstance(event := parse(self._parser), h11.Data):
            pieces.append(event.data)
        content = b"".join(pieces)
        if self._framed and content:
            content = b"%x\r\n%b\r\n" % (len(content), content)
        if isinstance(event, h11.EndOfMessage):
            self.done = True
            self.rest = self._parser.trailing_data[0]
            if self._framed:
                trailers = [(n, v) for n, v in end_to_end(event) if n.lower() != b"host"]
                content += head(b"0", trailers)
        return content

    def end(self) -> None:
        """Raises ProtocolError: the last chunk is missing."""
        raise ProtocolError("the end of the connection before the last chunk")


class HttpResponse:
    """The target's response to `request`, as it is forwarded to the application.

    `again`: the request can be sent on another connection. Then a 408 (timeout) is not a response to it.
    """

    def __init__(self, request: ForwardRequest, again: bool = False) -> None:
        self._request = request
        self._again = again
        self._parser = h11.Connection(h11.CLIENT, MAX_ANSWER_HEAD)
        fields = [(b"Host", b"x")] + ([(b"Upgrade", UPGRADE)] if request.upgrade else [])
        self._parser.send(h11.Request(method=request.method, target=b"/", headers=fields))
        self._parser.send(h11.EndOfMessage())
        self._heads = HeadBuffer(MAX_ANSWER_HEAD)
        self._mended = False
        self._body: Body | None = None
        self._reusable = False
        self.empty = True
        """Whether no response to the request has begun yet."""
        self.upgraded = False
        """Whether the exchange has become a tunnel."""
        self.keep = False
        """Whether the application may use its connection again."""

    @property
    def started(self) -> bool:
        """Whether the final head was forwarded."""
        return self.upgraded or self._body is not None

    @property
    def done(self) -> bool:
        """Whether the whole response was forwarded."""
        return self.upgraded or (self._body is not None and self._body.done)

    @property
    def reusable(self) -> bool:
        """Whether the target accepts another request on its connection."""
        return self._reusable and self._body is not None and self._body.done and not self._body.rest

    def receive(self, data: bytes, keep: bool) -> bytes:
        """The bytes to send to the application for `data`. Raises ProtocolError.

        `keep`: the request allows its connection to stay open. It is used until the head is complete.
        """
        self.empty = False
        if self._body:
            return self._body.receive(data)
        self._heads.data += data
        out = b""
        while not self.started and (found := self._heads.take_answer()):
            regular = mended(found)
            self._mended |= regular is not found
            self._parser.receive_data(regular)
            event = parse(self._parser)
            if isinstance(event, h11.Response):
                if self._again and event.status_code == 408:  # RFC 9110 section 15.5.9
                    self.empty = True
                    raise ProtocolError("the target gave up waiting for a request")
                out += self._begin(event, keep)
                continue
            assert isinstance(event, h11.InformationalResponse)
            self._again = False
            if event.status_code == 101:
                self.upgraded = True
                out += _status_line(event, [*end_to_end(event), *upgrade_fields()])
                out += self._heads.drain()
            elif self._request.modern:
                out += _status_line(event, end_to_end(event))
        return out

    def end(self) -> None:
        """Note that the target has ended its side. Raises ProtocolError if the response is incomplete."""
        if self._body is None:
            raise ProtocolError("the target closed the connection without an answer")
        self._body.end()

    def _begin(self, event: h11.Response, keep: bool) -> bytes:
        """Process the final head. Return the bytes to send for it and for the bytes after it."""
        fields = end_to_end(event)
        found = dict(event.headers)
        length, chunked = found.get(b"content-length"), b"transfer-encoding" in found
        self._reusable = event.http_version == b"1.1" and b"close" not in tokens(event.headers, b"connection")
        self._reusable &= not self._mended
        self.keep = keep and self._request.keep
        if self._request.method == b"HEAD" or event.status_code in (204, 304):
            self._body = Length(0)
            if length is not None and event.status_code != 204:
                fields.append((b"Content-Length", length))
        elif chunked:
            self._body = Chunked(self._parser, self._request.modern)
            if self._request.modern:
                fields.append((b"Transfer-Encoding", b"chunked"))
            else:
                self.keep = False
            if length is not None:  # another proxy may see a different end (RFC 9112 section 6.3)
                self._reusable = False
        elif length is not None:
            self._body = Length(int(length))
            fields.append((b"Content-Length", length))
        else:
            self._body = UntilClose()
            self._reusable = self.keep = False
        if not self.keep:
            fields.append((b"Connection", b"close"))
        return _status_line(event, fields) + self._body.receive(self._heads.drain())


def parse(parser: h11.Connection) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
    """The next event of `parser`. Raises ProtocolError for malformed bytes."""
    try:
        return parser.next_event()
    except h11.RemoteProtocolError as error:
        raise ProtocolError(str(error)) from None


def tokens(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> set[bytes]:
    """The members of a list-valued field, in lower case."""
    values = b",".join(value for found, value in headers if found == name)
    return {token.strip().lower() for token in values.split(b",")}


def end_to_end(event: h11.Request | h11.InformationalResponse | h11.Response | h11.EndOfMessage) -> Fields:
    """The end-to-end fields, without those for the framing of the message."""
    drop = _HOP | tokens(event.headers, b"connection")
    return [(name, value) for name, value in event.headers.raw_items() if name.lower() not in drop]


def upgrade_fields() -> Fields:
    """The fields that request or confirm an upgrade."""
    return [(b"Connection", b"Upgrade"), (b"Upgrade", UPGRADE)]


def head(start: bytes, fields: Fields) -> bytes:
    """A head: its first line, the fields and the blank line."""
    return b"\r\n".join([start, *(b"%b: %b" % field for field in fields), b"", b""])


def _status_line(event: h11.Response | h11.InformationalResponse, fields: Fields) -> bytes:
    return head(b"HTTP/1.1 %d %b" % (event.status_code, event.reason), fields)
