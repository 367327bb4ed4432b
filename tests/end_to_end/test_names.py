"""Names as users type them, on a machine whose name server is the test's: a network namespace."""

import json
import os
import select
import shutil
import subprocess
import sys
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from types import SimpleNamespace

import pytest

from lane.testing.harness import until
from tests.support.processes import TRANSPORTS, start_client, start_server

ROOT = Path(__file__).parents[2]
NUMBERS = count()
WEB = 8180
DEAD = 60
ASK_FOR = """
import select, socket, sys
port, *names = sys.argv[1:]
waiting = []
for name in names:
    waiting.append(socket.create_connection(("127.0.0.1", int(port))))
    target = bytes([len(name)]) + name.encode() + b"\\0\\x50"
    waiting[-1].sendall(b"\\5\\1\\0" + b"\\5\\1\\0\\3" + target)
for sock in waiting:
    assert sock.recv(2) == b"\\5\\0"
select.select(waiting, [], [])
print("an answer", flush=True)
"""
"""Asks a SOCKS5 proxy for connections to names, all at once."""
ZONES = {
    "server.test": ["AAAA 2001:db8::1", "A 127.0.0.1"],  # without a route to the first
    "good.test": ["A 127.0.0.1"],
    "example.com.corp.test": ["A 127.0.0.1"],
    "xn--strae-oqa.test": ["A 127.0.0.1"],
    "strasse.test": ["A 127.0.0.1"],
    "mapped.test": ["AAAA ::ffff:127.0.0.1"],
    **{f"good{number}.test": ["A 127.0.0.1"] for number in range(5)},
}


def run(*command):
    return subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=60, check=False)


@pytest.fixture(scope="module")
def space(tmp_path_factory):
    """A namespace with loopback, a name server and a web server: `prefix` is for commands that run there."""
    if os.geteuid() or not shutil.which("ip"):
        pytest.skip("network namespaces need root and ip")
    name = f"lane{os.getpid()}-n{next(NUMBERS)}"
    if (made := run("ip", "netns", "add", name)).returncode:
        pytest.skip(f"there can be no network namespaces here: {made.stderr.strip()}")
    prefix = ["ip", "netns", "exec", name]
    etc = Path("/etc/netns", name)  # ip-netns(8): what is here is seen in /etc there
    with ExitStack() as stack:
        stack.callback(run, "ip", "netns", "del", name)
        run("ip", "-n", name, "link", "set", "lo", "up")
        etc.mkdir(parents=True)
        stack.callback(shutil.rmtree, etc)
        (etc / "resolv.conf").write_text("nameserver 127.0.0.53\nsearch corp.test\noptions ndots:2\n")
        (etc / "hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
        web = ["-m", "http.server", "--bind", "127.0.0.1", "--directory", tmp_path_factory.mktemp("web"), WEB]
        names = ["-m", "tests.support.names", "127.0.0.53", 53, json.dumps(ZONES)]
        said = tmp_path_factory.mktemp("names") / "said"
        for arguments in (names, web):
            with said.open("ab") as out:
                command = [*prefix, sys.executable, *map(str, arguments)]
                how = {
                    "stdout": out if arguments is names else subprocess.DEVNULL,
                    "stderr": subprocess.DEVNULL,
                }
                process = stack.enter_context(subprocess.Popen(command, cwd=ROOT, **how))
            stack.callback(process.kill)
        until(lambda: "ready" in said.read_text())
        until(lambda: not run(*prefix, "curl", "-s", f"http://127.0.0.1:{WEB}/").returncode)
        yield SimpleNamespace(prefix=prefix, asked=lambda: said.read_text().split())


@pytest.fixture(scope="module", params=TRANSPORTS)
def proxy(space, request, tmp_path_factory):
    """The port of a client; its server's name has an address that is not reached."""
    folder = tmp_path_factory.mktemp("lane")
    denied = ["--deny", "straße.test"]
    with (
        start_server(folder / "s", *denied, listen="[::]:0", prefix=space.prefix) as server,
        start_client(
            folder / "c",
            request.param,
            server.link.replace("127.0.0.1", "server.test"),
            *("--listen", "localhost:0", "--rule", "direct direct.dead"),
            prefix=space.prefix,
        ) as client,
    ):
        yield client.address[1]


def curl(space, port, url, *options, at="localhost"):
    """What curl says: its exit status, and that of the HTTP response; 97: the proxy refused."""
    where = ["-x", f"socks5h://{at}:{port}"]
    command = [*space.prefix, "curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", *where, *options, url]
    result = run(*command)
    return result.returncode, result.stdout


REACHED, REFUSED = (0, "200"), (97, "000")


@pytest.mark.parametrize("at", ["127.0.0.1", "[::1]"])
def test_localhost_is_listened_on_at_both_its_addresses(space, proxy, at):
    assert curl(space, proxy, f"http://good.test:{WEB}/", at=at) == REACHED


def test_a_final_dot_keeps_search_domains_out(space, proxy):
    assert curl(space, proxy, f"http://example.com:{WEB}/") == REACHED  # of corp.test
    assert curl(space, proxy, f"http://example.com.:{WEB}/") == REFUSED


def test_a_denied_name_is_what_browsers_call_it(space, proxy):
    assert curl(space, proxy, f"http://xn--strae-oqa.test:{WEB}/") == REFUSED
    assert curl(space, proxy, f"http://straße.test:{WEB}/") == REFUSED
    assert curl(space, proxy, f"http://strasse.test:{WEB}/") == REACHED


@pytest.mark.parametrize("host", ["mapped.test", "[::ffff:127.0.0.1]"])
def test_a_mapped_address_is_the_ipv4_address(space, proxy, host):
    assert curl(space, proxy, f"http://{host}:{WEB}/") == REACHED


@pytest.mark.parametrize("domain", ["dead", "direct.dead"])
def test_dead_names_hold_up_nobody(space, proxy, domain):
    """Neither at the server, nor on the client for what goes directly."""
    names = [f"n{number}.{proxy}.{domain}" for number in range(DEAD)]
    command = [*space.prefix, sys.executable, "-c", ASK_FOR, str(proxy), *names]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as asking:
        try:
            until(lambda: set(names) <= set(space.asked()))
            assert not select.select([asking.stdout], [], [], 0)[0], (
                "some had to wait until others were given up"
            )
            for number in range(5):
                assert curl(space, proxy, f"http://good{number}.test:{WEB}/") == REACHED
        finally:
            asking.kill()
