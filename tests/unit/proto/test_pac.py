"""The proxy auto-config file: what it says, and that nothing of a request gets into it."""

import json
import re
import shutil
import subprocess

import pytest

from lane.address import Address
from lane.proto.events import ReplyBytes
from lane.proto.http import Http
from tests.support.http_messages import LOGIN, event, head, response

OWN = Address("192.0.2.7", 1080)
BROWSER = """
function isPlainHostName(host) { return host.indexOf(".") < 0; }
%s
console.log(JSON.stringify(%s.map(host => FindProxyForURL("http://" + host + "/", host))));
"""


def script(host, credentials=None, own=OWN):
    fields = b"GET /proxy.pac HTTP/1.1\r\nHost: " + host + b"\r\n\r\n"
    found = event(Http(credentials, own), fields)
    assert isinstance(found, ReplyBytes)
    status, answer, text = response(found.data)
    assert (status, answer[b"content-type"]) == (200, b"application/x-ns-proxy-autoconfig")
    return text


def proxies(text):
    """The `HOST:PORT` that it gives."""
    kinds = re.fullmatch(
        r"SOCKS5 (\S+); SOCKS (\S+); PROXY (\S+)", re.findall(r'return "(SOCKS5.*)"', text)[0]
    )
    assert kinds[1] == kinds[2] == kinds[3]
    return kinds[1]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        (b"127.0.0.1:1080", "127.0.0.1:1080"),
        (b"gate.example:8080", "gate.example:8080"),
        (b"gate.example", "gate.example:80"),
        (b"[2001:db8::1]:1080", "[2001:db8::1]:1080"),
    ],
)
def test_it_says_where_it_was_asked_for(host, expected):
    assert proxies(script(host)) == expected


@pytest.mark.parametrize(
    "host",
    [
        b"", b'a";alert(1);"', b"a\\u0022", b"a'b:1", b"a b:1", b"a;PROXY", b"a/b", b"a:0", b"a:65536",
        b"a:1:2", b"a:", b"[::1", b"[::1]x:1", b"</script>",
        b"\xe2\x80\xa8", b"x" * 300, b"a*/", b"PROXY_HERE:", b"user@a:1",
    ],
)  # fmt: skip
def test_nothing_else_gets_in(host):
    assert script(host) == script(str(OWN).encode())


def test_it_needs_no_password():
    assert proxies(script(b"a:1", LOGIN)) == "a:1"


def test_head_has_the_same_fields_and_no_body():
    full = event(Http(None, OWN), head(b"/proxy.pac", method=b"GET")).data
    assert (
        event(Http(None, OWN), head(b"/proxy.pac", method=b"HEAD")).data
        == full.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"
    )


def test_http_1_0_without_a_host():
    data = event(Http(None, OWN), b"GET /proxy.pac HTTP/1.0\r\n\r\n").data
    assert str(OWN) in response(data)[2]


@pytest.mark.skipif(not shutil.which("node"), reason="needs node, which runs what browsers do")
def test_what_goes_direct():
    direct = ["localhost", "LOCALHOST", "a.localhost", "printer", "127.0.0.1", "127.255.0.3", "::1", "[::1]"]
    through = [
        "example.com",
        "127.evil.example",
        "127.0.0.1.example",
        "10.0.0.1",
        "2001:db8::1",
        "[2001:db8::1]",
    ]
    through += ["localhost.example.com", "notlocalhost.example", "192.0.2.127", "fe80::1"]
    program = BROWSER % (script(b"a:1"), json.dumps(direct + through))
    said = json.loads(subprocess.check_output(["node", "-e", program], timeout=30))
    proxied = "SOCKS5 a:1; SOCKS a:1; PROXY a:1"
    assert dict(zip(direct + through, said, strict=True)) == dict.fromkeys(direct, "DIRECT") | dict.fromkeys(
        through, proxied
    )
