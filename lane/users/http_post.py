"""One HTTP request of JSON with an answer of JSON (RFC 9112, RFC 8259), over gevent's sockets."""

import base64
import json
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit

import gevent
import h11
from gevent import ssl

from lane.address import Address
from lane.errors import Closed, LaneError, UsageError
from lane.net.connect import Connector
from lane.net.failures import error_text

MAX_ANSWER = 65536
"""The longest answer that is read, bytes."""
_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where requests go. `shown` is its URL without a password."""

    address: Address
    path: str
    tls: bool
    shown: str
    credentials: str = field(default="", repr=False)
    """The value of an Authorization header; empty for none."""

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Read `http://[USER:PASSWORD@]HOST[:PORT]/PATH` or https. Raises UsageError, without the URL."""
        try:
            url = urlsplit(text.strip())
            host, port = url.hostname, url.port
        except ValueError:
            host, port = None, None
        if not host or url.scheme not in _PORTS or url.fragment:
            raise UsageError("malformed URL: expected http://HOST[:PORT]/PATH or https://...")
        credentials = ""
        if url.username is not None:
            pair = f"{unquote(url.username)}:{unquote(url.password or '')}".encode()
            credentials = f"Basic {base64.b64encode(pair).decode()}"
        address = Address(host, port or _PORTS[url.scheme])
        path = (url.path or "/") + (f"?{url.query}" if url.query else "")
        if not path.isascii() or not path.isprintable() or " " in path:
            raise UsageError("malformed URL: percent-encode its path")
        return cls(address, path, url.scheme == "https", f"{url.scheme}://{address}{url.path}", credentials)


def post(endpoint: Endpoint, value: Any, timeout: float) -> Any:
    """Send `value`, and return the answer. Raises Closed if there is no good one within `timeout` seconds."""
    sock = None
    try:
        with gevent.Timeout(timeout, Closed(f"no answer from {endpoint.shown} in time")):
            sock = Connector().open(endpoint.address, timeout)
            if endpoint.tls:
                context = ssl.create_default_context()
                sock = context.wrap_socket(sock, server_hostname=endpoint.address.host)
            return json.loads(_exchange(sock, endpoint, json.dumps(value).encode()))
    except Closed:
        raise
    except (ValueError, RecursionError, h11.ProtocolError):
        raise Closed(f"{endpoint.shown} does not answer with JSON") from None
    except (OSError, LaneError) as error:
        raise Closed(f"{endpoint.shown} can't be asked: {error_text(error)}") from None
    finally:
        if sock is not None:
            sock.close()


def _exchange(sock: Any, endpoint: Endpoint, body: bytes) -> bytes:
    """Send a request, and read the content of a good answer. Raises Closed for another one."""
    headers = [
        ("Host", str(endpoint.address)),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Connection", "close"),
    ]
    if endpoint.credentials:
        headers.append(("Authorization", endpoint.credentials))
    parser = h11.Connection(h11.CLIENT)
    request = h11.Request(method="POST", target=endpoint.path, headers=headers)
    sent = [parser.send(one) or b"" for one in (request, h11.Data(body), h11.EndOfMessage())]
    sock.sendall(b"".join(sent))  # no limit: the caller has one
    content = b""
    while True:
        event = parser.next_event()
        if event is h11.NEED_DATA:
            parser.receive_data(sock.recv(65536))
        elif isinstance(event, h11.Response) and event.status_code != 200:
            raise Closed(f"{endpoint.shown} answers with status {event.status_code}")
        elif isinstance(event, h11.Data):
            content += event.data
            if len(content) > MAX_ANSWER:
                raise Closed(f"{endpoint.shown} answers with more than {MAX_ANSWER} bytes")
        elif isinstance(event, h11.EndOfMessage):
            return content
