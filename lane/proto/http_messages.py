"""HTTP/1.1 messages on their way through a proxy (RFC 9110, RFC 9112), without I/O: fields and bodies.

What belongs to one connection only (RFC 9110 section 7.6.1) ends here, and the framing of a message is said
anew, so that whoever reads next cannot read it in another way than it was read here. h11 parses heads and
chunks; bodies of known length, and those that end with their connection, are passed on as they come, since
a parser would copy every byte of them. No Via is added: it would tell a target that there is a proxy.
"""

from collections.abc import Iterable
from typing import Protocol

import h11

from lane.errors import ProtocolError
from lane.proto.events import Forward
from lane.proto.http_heads import HeadBuffer, mended

MAX_ANSWER_HEAD = 65536
"""The longest head of a response, and the longest trailer section, bytes."""
UPGRADE = b"websocket"
"""The protocol that an exchange may be upgraded to. Others go without: h2c would only hide requests."""

Fields = list[tuple[bytes, bytes]]

_HOP = frozenset(
    b"connection proxy-connection keep-alive te transfer-encoding content-length upgrade proxy-authorization"
    b" proxy-authenticate proxy-authentication-info http2-settings".split()
)  # Content-Length is end-to-end, and said anew all the same


class Body(Protocol):
    """The body of one message: what comes of it, and what is sent on for that."""

    rest: bytes
    """What came behind it."""

    @property
    def done(self) -> bool:
        """Whether all of it came."""

    def receive(self, data: bytes) -> bytes:
        """What to send on for `data`. Raises ProtocolError."""

    def end(self) -> None:
        """The connection has ended. Raises ProtocolError if the body has not."""


class Length:
    """A body of `left` bytes."""

    def __init__(self, left: int) -> None:
        self.left = left
        self.rest = b""

    @property
    def done(self) -> bool:
        """Whether all of it came."""
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
    """A body that the end of its connection ends."""

    rest = b""

    def __init__(self) -> None:
        self.done = False

    def receive(self, data: bytes) -> bytes:
        """All of `data`."""
        return data

    def end(self) -> None:
        """That was all."""
        self.done = True


class Chunked:
    """A body in chunks, whose head `parser` has read. `framed`: it goes out in chunks, too."""

    def __init__(self, parser: h11.Connection, framed: bool) -> None:
        self._parser = parser
        self._framed = framed
        self.done = False
        self.rest = b""

    def receive(self, data: bytes) -> bytes:
        """The content of `data`: in one chunk, however many it came in. Raises ProtocolError."""
        if data:  # b"" would be the end to h11
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


class Answer:
    """What a target answers to `request`, on its way to the application.

    `again`: the request can go to another connection, so one that was given up (408) is no answer to it.
    """

    def __init__(self, request: Forward, again: bool = False) -> None:
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
        """Whether nothing came yet that answers the request."""
        self.upgraded = False
        """Whether the exchange has become a tunnel."""
        self.keep = False
        """Whether the application may go on with its connection."""

    @property
    def started(self) -> bool:
        """Whether the final head has been passed on."""
        return self.upgraded or self._body is not None

    @property
    def done(self) -> bool:
        """Whether all of it has been passed on."""
        return self.upgraded or (self._body is not None and self._body.done)

    @property
    def reusable(self) -> bool:
        """Whether the target takes another request on its connection."""
        return self._reusable and self._body is not None and self._body.done and not self._body.rest

    def receive(self, data: bytes, keep: bool) -> bytes:
        """What to send to the application. Raises ProtocolError.

        `keep`: the request does not keep the connection from going on (of interest until the head is there).
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
        """The target has ended its side. Raises ProtocolError if the answer has not ended."""
        if self._body is None:
            raise ProtocolError("the target closed the connection without an answer")
        self._body.end()

    def _begin(self, event: h11.Response, keep: bool) -> bytes:
        """Take the final head: what to send for it, and for what came behind it."""
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
            if length is not None:  # somebody on the way may see another end (RFC 9112 section 6.3)
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
    """The next event. Raises ProtocolError for what is malformed."""
    try:
        return parser.next_event()
    except h11.RemoteProtocolError as error:
        raise ProtocolError(str(error)) from None


def tokens(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> set[bytes]:
    """The members of a list-valued field, in lower case."""
    values = b",".join(value for found, value in headers if found == name)
    return {token.strip().lower() for token in values.split(b",")}


def end_to_end(event: h11.Request | h11.InformationalResponse | h11.Response | h11.EndOfMessage) -> Fields:
    """The fields that are for whoever is behind the proxy, without those that say where a message ends."""
    drop = _HOP | tokens(event.headers, b"connection")
    return [(name, value) for name, value in event.headers.raw_items() if name.lower() not in drop]


def upgrade_fields() -> Fields:
    """The fields that ask for a tunnel, or agree to one."""
    return [(b"Connection", b"Upgrade"), (b"Upgrade", UPGRADE)]


def head(start: bytes, fields: Fields) -> bytes:
    """A head: its first line, the fields and the blank line."""
    return b"\r\n".join([start, *(b"%b: %b" % field for field in fields), b"", b""])


def _status_line(event: h11.Response | h11.InformationalResponse, fields: Fields) -> bytes:
    return head(b"HTTP/1.1 %d %b" % (event.status_code, event.reason), fields)
