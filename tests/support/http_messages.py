"""What the tests of the HTTP codec share: heads, and responses as a client reads them."""

import base64

import h11

from lane.proto.events import Refusal, ReplyBytes
from lane.proto.http import Http

HEAD = b"CONNECT example.com:443 HTTP/1.1\r\nHost: example.com:443\r\n\r\n"
LOGIN = (b"user", b"sec:ret")


def event(codec, data):
    codec.receive(data)
    return codec.next_event()


def head(target, *fields, method=b"CONNECT"):
    return b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: x", *fields, b"", b""])


def response(data):
    """A whole response, read by h11 as a client would: status, headers, text."""
    client = h11.Connection(h11.CLIENT)
    client.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
    client.receive_data(data)
    answer = client.next_event()
    body = client.next_event()
    assert isinstance(client.next_event(), h11.EndOfMessage)
    assert client.trailing_data == (b"", False)
    return answer.status_code, dict(answer.headers), bytes(body.data).decode()


def refusal(data, credentials=None):
    found = event(Http(credentials), data)
    assert isinstance(found, Refusal | ReplyBytes)
    return response(found.data)


def basic(text, scheme=b"Basic "):
    return b"Proxy-Authorization: " + scheme + base64.b64encode(text)
