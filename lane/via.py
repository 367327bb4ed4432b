"""`--via`: the client connects to its server through another proxy.

The connection through the proxy replaces a transport's plain TCP connection. Everything above it, TLS and the
pin included, stays between the client and the server. The proxy resolves the server's name, since a client
that needs a proxy often has no DNS either.
"""

import base64
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import gevent
import h11

from lane.address import Address
from lane.errors import Status, TargetError, Unreachable, UsageError
from lane.net.connect import Connector
from lane.net.failures import error_text
from lane.values import check_credentials

_PORTS = {"socks5": 1080, "http": 8080}
_EXPECTED = "expected socks5://[USER:PASSWORD@]HOST[:PORT] or http://..."
_MAX_ANSWER = 65536


@dataclass(frozen=True, slots=True)
class Via:
    """A proxy that speaks SOCKS5 (RFC 1928, RFC 1929; `kind` socks5) or HTTP CONNECT (RFC 9110; http)."""

    kind: str
    address: Address
    credentials: tuple[bytes, bytes] | None = field(default=None, repr=False)
    connector: Connector = field(default_factory=Connector, repr=False, compare=False)

    @classmethod
    def parse(cls, text: str) -> "Via":
        """Read a URL; `socks5h` means `socks5`. Raises UsageError, which does not repeat the URL."""
        try:
            url = urlsplit(text.strip())
            kind = {"socks5h": "socks5"}.get(url.scheme, url.scheme)
            host, port = url.hostname, url.port
        except ValueError:
            raise UsageError(f"malformed proxy: {_EXPECTED}") from None
        if kind not in _PORTS or not host or url.path not in ("", "/") or url.query or url.fragment:
            raise UsageError(f"malformed proxy: {_EXPECTED}")
        credentials = None
        if url.username is not None:
            user, password = (unquote(part or "").encode() for part in (url.username, url.password))
            credentials = check_credentials(user, password)
        address = str(Address(host, port or _PORTS[kind]))
        return cls(kind, Address.parse(address), credentials)

    def __str__(self) -> str:
        return f"{self.kind}://{self.address}"

    def connect(self, endpoint: Address, timeout: float) -> Any:
        """Connect to `endpoint` within `timeout` seconds. Return a gevent socket. Raises Unreachable."""
        sock = None
        try:
            with gevent.Timeout(timeout, _ProxyTimeout("no answer in time")):
                sock = self.connector.open(self.address, timeout)
                greet = _socks5 if self.kind == "socks5" else _http
                greet(endpoint, self.credentials, sock.sendall, sock.recv)
                return sock
        except BaseException as error:
            if sock:
                sock.close()
            if isinstance(error, _Refusal):
                raise Unreachable(f"the proxy {self} does not connect us to {endpoint}: {error}") from None
            if isinstance(error, OSError | TargetError | _ProxyTimeout):
                raise Unreachable(
                    f"cannot reach {endpoint} through the proxy {self}: {error_text(error)}"
                ) from None
            raise


class _ProxyTimeout(Exception):
    """The deadline has passed."""


class _Refusal(Exception):
    """The proxy refused, or did not answer as it should."""


Send = Callable[[bytes], Any]
Recv = Callable[[int], bytes]


def _socks5(target: Address, credentials: tuple[bytes, bytes] | None, send: Send, recv: Recv) -> None:
    """Request a connection to `target`. Reads no byte beyond the answer. Raises _Refusal."""
    send(b"\5\2\0\2" if credentials else b"\5\1\0")
    version, method = _exactly(recv, 2)
    if version != 5 or method not in (0, 2) or (method == 2 and not credentials):
        raise _Refusal("it wants another login" if version == 5 else "it does not speak SOCKS5")
    if method == 2 and credentials:
        user, password = credentials
        send(struct.pack(f"!BB{len(user)}sB", 1, len(user), user, len(password)) + password)
        if _exactly(recv, 2)[1]:
            raise _Refusal("wrong user or password")
    send(b"\5\1\0" + target.pack())
    version, status, _, kind = _exactly(recv, 4)
    if status:
        known = status in list(Status)
        raise _Refusal(Status(status).name.lower().replace("_", " ") if known else f"status {status}")
    size = {1: 4, 4: 16}.get(kind) or (_exactly(recv, 1)[0] if kind == 3 else None)
    if version != 5 or size is None:
        raise _Refusal("it does not speak SOCKS5")
    _exactly(recv, size + 2)


def _exactly(recv: Recv, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = recv(size - len(data))
        if not more:
            raise _Refusal("it hung up")
        data += more
    return data


def _http(target: Address, credentials: tuple[bytes, bytes] | None, send: Send, recv: Recv) -> None:
    """Request a tunnel to `target`. Raises _Refusal.

    The answer is read byte by byte, since the bytes behind it belong to the tunnel.
    """
    headers = [("Host", str(target))]
    if credentials:
        headers.append(("Proxy-Authorization", "Basic " + base64.b64encode(b":".join(credentials)).decode()))
    parser = h11.Connection(h11.CLIENT)
    try:
        send(parser.send(h11.Request(method="CONNECT", target=str(target), headers=headers)) or b"")
        for _ in range(_MAX_ANSWER):
            event = parser.next_event()
            if event is h11.NEED_DATA:
                parser.receive_data(_exactly(recv, 1))
            elif isinstance(event, h11.Response):
                break
        else:
            raise _Refusal("its answer does not end")
    except h11.ProtocolError as error:
        raise _Refusal(f"it does not speak HTTP: {error}") from None
    if not 200 <= event.status_code < 300:
        raise _Refusal(f"{event.status_code} {event.reason.decode(errors='replace')}".strip())
