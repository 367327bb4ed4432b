"""The server's side of an HTTP proxy (RFC 9110 sections 7 and 9.3.6, RFC 9112), without I/O.

Browsers, and tools without SOCKS, use this protocol: CONNECT for a tunnel, and requests with the whole URL as
target for http:// URLs. h11 parses a request's head once all of it has arrived. A head that two parsers could
read in two ways is refused, even if h11 accepts it: a forwarded head must have one meaning.
"""

import base64
import binascii
import re
from http import HTTPStatus

import h11

from lane.address import Address
from lane.errors import ProtocolError, Status, TargetError, UsageError
from lane.net.names import ascii_name
from lane.proto import pac
from lane.proto.events import (
    ConnectRequest,
    Credentials,
    Event,
    ForwardRequest,
    Refusal,
    ReplyBytes,
    credentials_match,
)
from lane.proto.http_heads import MAX_LINES, HeadBuffer, HeadTooLong
from lane.proto.http_messages import (
    UPGRADE,
    Body,
    Chunked,
    Fields,
    Length,
    end_to_end,
    head,
    parse,
    tokens,
    upgrade_fields,
)

MAX_HEAD = 65536
"""The longest request head, bytes, including its blank line."""
MAX_TARGET = 1 + 255 + 1 + 1 + 5
"""The longest `[host]:port`, bytes."""
MAX_FORWARDS = 999_999_999
"""The largest value of Max-Forwards."""
MAX_SKIPPED = 65536
"""The longest body, bytes, that is dropped after an error, so that the next request can follow."""
WHAT_THIS_IS = "this is a proxy, and no web server: set it as the SOCKS5 or HTTP proxy of an application"

_FOLDED = re.compile(rb"\n[ \t]")
_LENGTH = re.compile(rb"(?i)\ncontent-length:([^\r\n]*)")
_ABSOLUTE = re.compile(
    rb"(?i:http)://((?:\[[0-9a-fA-F:.]+\]|[a-zA-Z0-9._~!$&'()*+,;=-]+)(?::[0-9]*)?)((?:[/?][^#]*)?)"
)
_ANY_TARGET = re.compile(rb"((?:[a-zA-Z][a-zA-Z0-9+.-]*://)?)([^/?#:]*)(.*)")
_SCHEME = re.compile(rb"([a-zA-Z][a-zA-Z0-9+.-]*)://")
_IDEMPOTENT = (b"GET", b"HEAD", b"OPTIONS", b"TRACE", b"PUT", b"DELETE")
_LIMITED = (b"OPTIONS", b"TRACE")  # by Max-Forwards
_ALLOW = "Allow: CONNECT, DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT, TRACE"
_SECRET = re.compile(rb"(?im)^(?:authorization|proxy-authorization|cookie):[^\n]*\n")
_CHALLENGE = 'Proxy-Authenticate: Basic realm="lane", charset="UTF-8"'
_CLOSE = "Connection: close"
_TEXT = "text/plain; charset=utf-8"
_STATUS = {
    Status.NOT_ALLOWED: HTTPStatus.FORBIDDEN,
    Status.TTL_EXPIRED: HTTPStatus.GATEWAY_TIMEOUT,
    Status.COMMAND_NOT_SUPPORTED: HTTPStatus.NOT_IMPLEMENTED,
    Status.ADDRESS_NOT_SUPPORTED: HTTPStatus.BAD_REQUEST,
}  # all others: 502


class Http:
    """A `lane.proto.events.Codec`. It answers every error, so `next_event` never raises.

    After a ForwardRequest, `upload` handles the request's body until `uploaded`. Then another one may follow.
    `serve_pac` is this side's address; with it, requests for a proxy auto-config file are answered.
    """

    def __init__(self, credentials: Credentials | None = None, serve_pac: Address | None = None) -> None:
        self.login: bool | None = None
        self._credentials = credentials
        self._serve_pac = serve_pac
        self._heads = HeadBuffer(MAX_HEAD)
        self._done = False
        self._body: Body = Length(0)  # the body of the last request
        self._keep = False  # whether its head lets the connection stay open
        self._bodiless = False  # whether the response to it has only a head
        self._expects = False  # whether it has Expect: 100-continue, so that the body may never arrive

    @property
    def trailing_data(self) -> bytes:
        """The bytes received after the last head, or after its body."""
        return bytes(self._heads.data)

    @property
    def uploaded(self) -> bool:
        """Whether the body of the last request is complete."""
        return self._body.done

    def receive(self, data: bytes) -> None:
        """Add bytes from the application."""
        self._heads.data += data

    def upload(self, data: bytes) -> bytes:
        """The bytes of the request's body to forward, after `data` arrived. Raises ProtocolError."""
        if self._heads.data:
            data = self._heads.drain() + data
        content = self._body.receive(data)
        if self._body.done:
            self._heads.data += self._body.rest
        return content

    def next_event(self) -> Event | None:
        """The request, or the response to a faulty one; None while bytes are missing."""
        if self._done:
            return None
        if not self._body.done:  # the request was answered before its body arrived
            self.upload(b"")
            if not self._body.done:
                return None
        try:
            found = self._heads.take()
        except HeadTooLong:
            status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
            return self._end(status, f"a request head is at most {MAX_HEAD} bytes in {MAX_LINES} lines")
        if found is None:
            return None
        try:
            event = self._judge(found.removeprefix(b"\r\n"))  # RFC 9112 section 2.2
        except ProtocolError as error:
            return self._end(HTTPStatus.BAD_REQUEST, str(error))
        self._done = isinstance(event, ConnectRequest | Refusal)
        return event

    def accepted(self, bound: Address) -> bytes:
        """The response after which the tunnel begins. HTTP has no field for `bound`."""
        return b"HTTP/1.1 200 Connection established\r\n\r\n"

    def refused(self, status: Status, text: str) -> bytes:
        """The connection's last response, for `status`, with `text` as its body."""
        return self._response(_STATUS.get(status, HTTPStatus.BAD_GATEWAY), text, _CLOSE)

    def malformed(self, text: str) -> bytes:
        """The connection's last response, to a request with a malformed body."""
        return self._response(HTTPStatus.BAD_REQUEST, text, _CLOSE)

    def failed(self, status: Status, text: str) -> ReplyBytes | Refusal:
        """The response to a failed ForwardRequest, as in `refused`."""
        return self._answer(_STATUS.get(status, HTTPStatus.BAD_GATEWAY), text)

    def _judge(self, found: bytes) -> Event:
        """The request in a head. Raises ProtocolError if it is malformed."""
        self._keep = self._bodiless = self._expects = False
        parser = h11.Connection(h11.SERVER)
        parser.receive_data(_in_ascii(found))
        try:
            request = parse(parser)
        except ProtocolError:
            raise ProtocolError("malformed HTTP request") from None
        assert isinstance(request, h11.Request)
        fields = dict(request.headers)
        modern = request.http_version == b"1.1"
        if not modern and request.http_version != b"1.0":
            raise ProtocolError("only HTTP/1.0 and HTTP/1.1 are spoken here")
        if _FOLDED.search(found):
            raise ProtocolError("a header field goes over more than one line")
        lengths = _LENGTH.findall(found)
        if len(lengths) > 1 or (lengths and b"," in lengths[0]):
            raise ProtocolError("more than one Content-Length")
        chunked = b"transfer-encoding" in fields
        if chunked and (lengths or not modern):
            raise ProtocolError("a Transfer-Encoding with a Content-Length, or in HTTP/1.0")
        length = int(fields.get(b"content-length", 0))
        self._body = Chunked(parser, framed=True) if chunked else Length(length)
        self._keep = modern and b"close" not in tokens(request.headers, b"connection")
        self._bodiless = request.method == b"HEAD"
        self._expects = b"expect" in fields
        if self._serve_pac and request.method in (b"GET", b"HEAD") and request.target == pac.PATH:
            text = pac.script(fields.get(b"host", b""), self._serve_pac)
            return self._answer(HTTPStatus.OK, text, kind=pac.TYPE)
        if self._credentials is not None:
            given = _basic(fields.get(b"proxy-authorization", b""))
            self.login = None if given is None else credentials_match(given, self._credentials)
            if not self.login:
                self._keep = self._keep and given is None  # wrong credentials end the connection
                text = "this proxy needs a user and a password"
                return self._answer(HTTPStatus.PROXY_AUTHENTICATION_REQUIRED, text, _CHALLENGE)
        if request.method == b"CONNECT":
            if not self._body.done:
                raise ProtocolError("a CONNECT has no body")
            return ConnectRequest(_address(request.target))
        if (left := _max_forwards(request)) == 0:  # no further proxy: answer it here
            if request.method == b"OPTIONS":
                return self._answer(HTTPStatus.OK, b"", _ALLOW)
            return self._answer(HTTPStatus.OK, _SECRET.sub(b"", found), kind="message/http")
        return self._forward(request, modern, left)

    def _forward(self, request: h11.Request, modern: bool, left: int | None) -> Event:
        """The exchange for a request with a URL. Raises ProtocolError."""
        absolute = _ABSOLUTE.fullmatch(request.target)
        if absolute is None:
            scheme = _SCHEME.match(request.target)
            if scheme and scheme[1].lower() != b"http":
                text = f"{scheme[1].decode()}:// is not forwarded: http:// is, and CONNECT leads to all else"
                return self._answer(HTTPStatus.NOT_IMPLEMENTED, text)
            if request.target.startswith(b"/"):
                return self._answer(HTTPStatus.NOT_FOUND, WHAT_THIS_IS)
            raise ProtocolError("malformed URL: expected http://HOST[:PORT]/PATH")
        authority, rest = absolute[1].rstrip(b":"), absolute[2]
        target = _address(authority, 80)
        path = rest if rest.startswith(b"/") else b"/" + rest
        if request.method == b"OPTIONS" and not rest:
            path = b"*"  # RFC 9112 section 3.2.4
        upgrade = modern and UPGRADE in tokens(request.headers, b"upgrade") and self._body.done
        expects = modern and self._expects
        fields: Fields = [(b"Host", authority)]
        fields += [
            (name, value)
            for name, value in end_to_end(request)
            if name.lower() not in (b"host", b"max-forwards" if left else b"")
            and (expects or name.lower() != b"expect")
        ]
        if left:
            fields.append((b"Max-Forwards", b"%d" % (left - 1)))
        if isinstance(self._body, Chunked):
            fields.append((b"Transfer-Encoding", b"chunked"))
        elif length := dict(request.headers).get(b"content-length"):
            fields.append((b"Content-Length", length))
        if upgrade:
            fields += upgrade_fields()
        elif not self._keep:
            fields.append((b"Connection", b"close"))
        elif b"trailers" in tokens(request.headers, b"te"):
            fields += [(b"Connection", b"TE"), (b"TE", b"trailers")]
        return ForwardRequest(
            target,
            head(b"%b %b HTTP/1.1" % (request.method, path), fields),
            request.method,
            modern=modern,
            keep=self._keep,
            upgrade=upgrade,
            repeatable=self._body.done and request.method in _IDEMPOTENT,
        )

    def _end(self, status: HTTPStatus, text: str) -> Refusal:
        self._done = True
        return Refusal(self._response(status, text, _CLOSE))

    def _answer(
        self, status: HTTPStatus, text: str | bytes, *fields: str, kind: str = _TEXT
    ) -> ReplyBytes | Refusal:
        """A response after which the connection stays open, if the request allows that."""
        body = self._body
        skippable = isinstance(body, Length) and body.left <= MAX_SKIPPED and not self._expects
        if self._keep and (body.done or skippable):
            return ReplyBytes(self._response(status, text, *fields, kind=kind))
        self._done = True
        return Refusal(self._response(status, text, _CLOSE, *fields, kind=kind))

    def _response(self, status: HTTPStatus, text: str | bytes, *fields: str, kind: str = _TEXT) -> bytes:
        """A whole response. `text` is its body, and so cannot add header fields."""
        body = text if isinstance(text, bytes) else f"{text.rstrip()}\n".encode(errors="replace")
        lines = (
            f"HTTP/1.1 {status} {status.phrase}",
            f"Content-Type: {kind}",
            f"Content-Length: {len(body)}",
            *fields,
        )
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + (b"" if self._bodiless else body)


def _in_ascii(found: bytes) -> bytes:
    """Encode a head whose target is raw UTF-8, as many programs send it.

    The host becomes its form in the DNS. Other bytes are percent-encoded (RFC 3986 section 2.1), which does
    not change their meaning. Raises ProtocolError if the host cannot be a name.
    """
    line, end, fields = found.partition(b"\n")
    if line.isascii():
        return found
    start, _, version = line.rpartition(b" ")
    method, _, target = start.partition(b" ")
    parts = _ANY_TARGET.fullmatch(target)
    if parts is None:
        return found
    scheme, host, rest = parts.groups()
    try:
        host = host if host.isascii() else ascii_name(host.decode()).encode()
    except (UnicodeDecodeError, TargetError):
        raise ProtocolError("the host in the URL is no name") from None
    rest = b"".join(b"%c" % byte if byte < 0x80 else b"%%%02X" % byte for byte in rest)
    return b"%b %b%b%b %b%b%b" % (method, scheme, host, rest, version, end, fields)


def _max_forwards(request: h11.Request) -> int | None:
    """How many more proxies may forward it (RFC 9110 section 7.6.2); None: any. Raises ProtocolError."""
    found = [value for name, value in request.headers if name == b"max-forwards"]
    if request.method not in _LIMITED or not found:
        return None
    if len(found) > 1 or not found[0].isdigit():
        raise ProtocolError("a malformed Max-Forwards")
    digits = found[0].lstrip(b"0") or b"0"
    return int(digits) if len(digits) <= len(str(MAX_FORWARDS)) else MAX_FORWARDS


def _address(text: bytes, default_port: int | None = None) -> Address:
    """The host and the port of a target. Raises ProtocolError."""
    if len(text) > MAX_TARGET:
        raise ProtocolError(f"a target is at most {MAX_TARGET} bytes")
    try:
        target = Address.parse(text.decode("ascii"), default_port)
    except UsageError as error:
        raise ProtocolError(str(error)) from None
    if not (target.host and target.port):
        raise ProtocolError("the target has no host or no port")
    return target


def _basic(value: bytes) -> Credentials | None:
    """The credentials in a Basic authorization (RFC 7617); None if it is malformed."""
    scheme, _, encoded = value.partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        user, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
    except binascii.Error:
        return None
    return user, password
