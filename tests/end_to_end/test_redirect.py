"""Connections that the kernel redirected: the commands of docs/TRANSPARENT.md, in network namespaces.

`here` is the machine with lane, and a router for `lan`; `there` has lane's server, and the targets.
"""

import os
import re
import shutil
import socket
import struct
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest
from gevent.pool import Pool

from lane.address import Address
from lane.errors import ConfigError
from lane.inbound import Inbound
from lane.inbound import redirect as redirect_module
from lane.inbound.redirect import Redirect, original_destination
from lane.testing.harness import until
from tests.support.inbound import is_reset, raising
from tests.support.processes import TRANSPORTS, start_client, start_server

DOCUMENT = (Path(__file__).parents[2] / "docs" / "TRANSPARENT.md").read_text()
NUMBERS = count()
SERVER, SERVER6 = "198.51.100.1", "2001:db8:1::1"
TARGETS = ("203.0.113.1", "2001:db8:2::1")
PORT, WEB = 1081, 8180
NOBODY = 65534
"""A user other than the one that runs lane."""
RESET = (7, 55, 56)
"""What curl says of a reset: in its connect, as it sends, as it receives. A clean end would be 52."""
WHO_ASKS = """
import socket, sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

class Web(BaseHTTPRequestHandler):
    def do_GET(self):
        body = self.client_address[0].removeprefix("::ffff:").encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

class Server(ThreadingHTTPServer):
    address_family = socket.AF_INET6

    def server_bind(self):
        self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        self.socket.bind(self.server_address)
        self.server_name = self.server_port = ""

with Server(("::", int(sys.argv[1])), Web) as server:
    print("ready", flush=True)
    server.serve_forever()
"""
"""A web server that tells its clients which address they come from."""


def blocks(section):
    """The commands of one part of the document: iptables and how to undo it, nftables and how to undo it."""
    text = DOCUMENT.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


WAYS = [(tool, section) for section in ("This machine's own traffic", "A router's") for tool in (0, 1)]


def variables():
    """The block that sets them, with the values of this test."""
    text = re.search(r"^```sh\n(LANE_USER=.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)[1]
    values = {"LANE_USER": os.geteuid(), "PORT": PORT, "SERVER": SERVER, "SERVER6": SERVER6, "LAN": "lan"}
    assert set(re.findall(r"^(\w+)=", text, re.MULTILINE)) == values.keys()
    return "".join(f"{name}={value}\n" for name, value in values.items())


def run(*command, **how):
    result = subprocess.run(
        [*map(str, command)], capture_output=True, text=True, timeout=60, check=False, **how
    )
    assert result.returncode == 0, (command, result.stderr)
    return result.stdout


@pytest.fixture(scope="module")
def spaces():
    """Prefixes for commands: `here`, `there` and `lan`."""
    lacking = [tool for tool in ("ip", "iptables", "ip6tables", "nft", "setpriv") if not shutil.which(tool)]
    if os.geteuid():
        lacking.append("root")
    if lacking:
        pytest.skip(f"network namespaces need {' and '.join(lacking)}")
    name = f"lane{os.getpid()}-{next(NUMBERS)}"
    here, there, lan = (f"{name}{side}" for side in "hsl")
    with ExitStack() as stack:
        for space in (here, there, lan):
            made = subprocess.run(["ip", "netns", "add", space], capture_output=True, text=True, check=False)
            if made.returncode:
                pytest.skip(f"there can be no network namespaces here: {made.stderr.strip()}")
            stack.callback(run, "ip", "netns", "del", space)
            run("ip", "-n", space, "link", "set", "lo", "up")
        for tables in ("iptables", "ip6tables"):
            command = ["ip", "netns", "exec", here, tables, "-t", "nat", "-L"]
            listed = subprocess.run(command, capture_output=True, text=True, check=False)
            if listed.returncode:
                pytest.skip(f"no NAT in this kernel: {listed.stderr.strip()}")
        run("ip", "-n", here, "link", "add", "wan", "type", "veth", "peer", "name", "out", "netns", there)
        run("ip", "-n", here, "link", "add", "lan", "type", "veth", "peer", "name", "out", "netns", lan)
        for space, device, *addresses in (
            (here, "wan", "198.51.100.2/24", "2001:db8:1::2/64"),
            (here, "lan", "192.168.77.1/24", "fd77::1/64"),
            (there, "out", f"{SERVER}/24", f"{SERVER6}/64"),
            (there, "lo", *TARGETS),
            (lan, "out", "192.168.77.2/24", "fd77::2/64"),
        ):
            for address in addresses:
                run(
                    "ip", "-n", space, "address", "add", address, "dev", device, *["nodad"] * (":" in address)
                )
            run("ip", "-n", space, "link", "set", device, "up")
        for space, *gateways in ((here, SERVER, SERVER6), (lan, "192.168.77.1", "fd77::1")):
            for gateway in gateways:
                run("ip", "-n", space, "route", "add", "default", "via", gateway)
        yield SimpleNamespace(
            here=["ip", "netns", "exec", here],
            there=["ip", "netns", "exec", there],
            lan=["ip", "netns", "exec", lan],
        )


@pytest.fixture(scope="module")
def web(spaces):
    command = [*spaces.there, sys.executable, "-u", "-c", WHO_ASKS, str(WEB)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


def curl(prefix, target, user=NOBODY):
    """An application of `user` that knows no proxy, and how it ended."""
    command = [*prefix, "setpriv", f"--reuid={user}", "--clear-groups"]
    command += ["curl", "-q", "-gsSf", "--noproxy", "*", "--max-time", "20", f"http://{target}/"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def who_asks(prefix, host, user=NOBODY):
    """The address that the web server sees an application of `user` come from."""
    result = curl(prefix, Address(host, WEB), user)
    assert result.returncode == 0, result.stderr
    return result.stdout


@contextmanager
def kernel_rules(prefix, tool, section):
    """The rules of the document, as long as the context lasts."""
    apply, undo = blocks(section)[2 * tool :][:2]
    run(*prefix, "sh", "-euc", variables() + apply)
    try:
        yield
    finally:
        run(*prefix, "sh", "-euc", variables() + undo)


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(("tool", "section"), WAYS)
def test_what_the_document_says(spaces, web, tmp_path, transport, tool, section):
    router = section == "A router's"
    apps = spaces.lan if router else spaces.here
    listen = [f"--redirect=:{PORT}", "--gateway"] if router else [f"--redirect=127.0.0.1:{PORT},[::1]:{PORT}"]
    allow = "203.0.113.0/24,2001:db8:2::/64"
    with (
        start_server(tmp_path / "s", listen=f"{SERVER}:0", allow=allow, prefix=spaces.there) as server,
        start_client(tmp_path / "c", transport, server.link, *listen, prefix=spaces.here) as client,
    ):
        with kernel_rules(spaces.here, tool, section):
            for target in TARGETS:  # the server is on the machine of its target
                assert who_asks(apps, target) == target
                assert curl(apps, Address(target, 9)).returncode in RESET  # where nobody listens
            if not router:  # and who runs lane, and connections to the server, are left alone
                assert who_asks(apps, TARGETS[0], user=os.geteuid()) == "198.51.100.2"
                assert who_asks(apps, TARGETS[1], user=os.geteuid()) == "2001:db8:1::2"
                assert who_asks(apps, SERVER) == "198.51.100.2"
                assert who_asks(apps, SERVER6) == "2001:db8:1::2"
            assert client.stderr.count("not redirected") == 0
            own = ("192.168.77.1", "fd77::1") if router else ("127.0.0.1", "::1")
            for address in own:  # nobody redirects these: they would go around in circles
                assert curl(apps, Address(address, PORT)).returncode in RESET
            said = 1 if router else 2  # a listener says it once
            until(lambda: client.stderr.count("not redirected") >= said, client.describe)
            assert client.stderr.count("not redirected") == said
        if not router:
            assert who_asks(apps, TARGETS[0]) == "198.51.100.2"  # all is undone
        assert client.stop() == 0
        assert server.stop() == 0
    assert "Traceback" not in server.stderr + client.stderr


SENDS_UDP = """
import os, socket, sys
os.setuid(int(sys.argv[1]))
sock = socket.socket(socket.AF_INET6 if ":" in sys.argv[2] else socket.AF_INET, socket.SOCK_DGRAM)
sock.connect((sys.argv[2], int(sys.argv[3])))
try:
    print(sock.send(b"x"))
except PermissionError:
    print("refused")
"""
"""Sends one packet as a user: whether the kernel let it leave."""


@pytest.mark.parametrize("tool", [0, 1])
def test_who_is_refused_quic(spaces, tool):
    def send(user, host, port):
        command = [*spaces.here, sys.executable, "-c", SENDS_UDP, user, host, port]
        return run(*command).strip()

    with kernel_rules(spaces.here, tool, "QUIC of browsers"):
        for target in TARGETS:
            assert send(NOBODY, target, 443) == "refused"
            assert send(NOBODY, target, 444) == "1"
            assert send(os.geteuid(), target, 443) == "1"  # lane's own
    assert [send(NOBODY, target, 443) for target in TARGETS] == ["1", "1"]


class Redirected:
    """A socket whose destination was rewritten, as the kernel tells it."""

    def __init__(self, here, raw):
        self.here, self.raw = here, raw
        self.family = socket.AF_INET6 if len(here) == 4 else socket.AF_INET

    def getsockname(self):
        return self.here

    def getsockopt(self, level, option, size):
        assert option == 80
        assert (level, size) == ((socket.SOL_IP, 16) if len(self.raw) == 16 else (socket.IPPROTO_IPV6, 28))
        return self.raw


def sockaddr_in(host, port):
    return struct.pack("=H", socket.AF_INET) + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def sockaddr_in6(host, port):
    address = socket.inet_pton(socket.AF_INET6, host)
    return struct.pack("=H", socket.AF_INET6) + struct.pack("!HI", port, 0) + address + bytes(4)


@pytest.mark.parametrize(
    ("here", "raw", "target"),
    [
        (("127.0.0.1", 1081), sockaddr_in("192.0.2.7", 443), Address("192.0.2.7", 443)),
        (("127.0.0.1", 1081), sockaddr_in("127.0.0.1", 1081), None),
        (("127.0.0.1", 1081), sockaddr_in("127.0.0.1", 1082), Address("127.0.0.1", 1082)),
        (("::ffff:10.0.0.1", 1081, 0, 0), sockaddr_in("192.0.2.7", 80), Address("192.0.2.7", 80)),
        (("::ffff:10.0.0.1", 1081, 0, 0), sockaddr_in("10.0.0.1", 1081), None),
        (("::1", 1081, 0, 0), sockaddr_in6("2001:db8::1", 443), Address("2001:db8::1", 443)),
        (("::1", 1081, 0, 0), sockaddr_in6("::1", 1081), None),
        (("fe80::1%eth0", 1081, 0, 2), sockaddr_in6("fe80::1", 1081), None),
    ],
    ids=str,
)
def test_where_a_connection_was_to_go(here, raw, target):
    assert original_destination(Redirected(here, raw)) == target


def test_what_was_not_redirected_is_reset_and_logged_once(caplog):
    """Here is no rule of the kernel's at all, and perhaps no connection tracking."""
    connector = SimpleNamespace(connect=raising(AssertionError("carried")))
    inbound = Inbound(Address("127.0.0.1", 0), Redirect(connector).serve, Pool(10))
    inbound.start()
    try:
        for _ in range(3):
            assert is_reset(inbound.address)
    finally:
        inbound.close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "refused a connection that was not redirected here" in caplog.text


def test_other_systems_say_so(monkeypatch):
    monkeypatch.setattr(redirect_module.sys, "platform", "darwin")
    with pytest.raises(ConfigError, match="redirect works on Linux only"):
        Redirect(SimpleNamespace(connect=None))
