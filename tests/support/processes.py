"""What the end-to-end tests share: lane as real processes, and applications that use it.

Everything is on loopback. Clients listen on ports that the kernel picked, servers on a `lasting_port`. A
process is waited for by what it prints or does, within a deadline, and stopped by its own PID.
"""

import collections
import contextlib
import hashlib
import io
import os
import random
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lane.cli import main
from lane.testing.harness import until
from tests.support.origin import read_to_end

DEADLINE = 100.0
"""Seconds for whatever must happen at all: it is there to end what hangs."""
TRANSPORTS = ("quic", "tls")
_given = collections.deque(maxlen=1000)  # ports that `lasting_port` gave to tests, which may not use them yet


class Lane:
    """A lane process with `arguments` that runs in `folder`. `prefix`: a command that runs it. `stderr`: what
    it writes there goes to this descriptor.
    """

    def __init__(self, folder, *arguments, prefix=(), env=None, stderr=None):
        self.arguments = [str(argument) for argument in arguments]
        folder.mkdir(exist_ok=True)
        name = f"{time.monotonic_ns()}"
        self._out, self._err = folder / f"{name}.out", folder / f"{name}.err"
        with self._out.open("wb") as out, self._err.open("wb") as err:
            self.process = subprocess.Popen(
                [*prefix, sys.executable, "-m", "lane", *self.arguments],
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err if stderr is None else stderr,
                env={**os.environ, **(env or {})},
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()

    @property
    def stdout(self):
        return self._out.read_text()

    @property
    def stderr(self):
        return self._err.read_text()

    def describe(self):
        """For the message of an assertion."""
        return f"lane {' '.join(self.arguments)}: {self.process.poll()}\n{self.stdout}\n{self.stderr}"

    def wait_for(self, pattern):
        """The match of `pattern` in a whole line of standard output."""

        def found():
            match = re.search(rf"^{pattern}\n", self.stdout, re.MULTILINE)
            assert match or self.process.poll() is None, self.describe()
            return match

        return until(found, self.describe, pause=0.01)

    def ready(self):
        """Wait until it listens: the address."""
        host, port = self.wait_for(r"listening on (.+):(\d+) \(.*").groups()
        self.address = (host, int(port))
        return self

    def ended(self):
        """Wait for its end: the exit status."""
        try:
            return self.process.wait(DEADLINE)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"does not end: {self.describe()}") from None

    def stop(self, number=signal.SIGTERM):
        """End it in good order: the exit status."""
        self.process.send_signal(number)
        return self.ended()

    def kill(self):
        """End it as a power cut would."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def lasting_port():
    """A port that is free for TCP and UDP, and stays so while the test's server is down.

    The kernel gives it to nobody: it is below the ephemeral ones. Each worker of pytest-xdist has its own.
    """
    first = 20000 + 2000 * (int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:]) % 6)
    for port in random.sample([*{*range(first, first + 2000)} - {*_given}], 200):
        with contextlib.suppress(OSError), contextlib.ExitStack() as socks:
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                socks.enter_context(socket.socket(socket.AF_INET, kind)).bind(("127.0.0.1", port))
            _given.append(port)
            return port
    raise AssertionError("no port is free")


def start_server(folder, *options, listen=None, allow="127.0.0.0/8", **how):
    """A server that is ready; `link` is for its clients. Another one may listen on its port after it."""
    listen = listen or f"127.0.0.1:{lasting_port()}"
    arguments = ["--state-dir", folder / "state", "--listen", listen, "--log-level", "debug"]
    if allow:
        arguments += ["--allow", allow]
    server = Lane(folder, "server", *arguments, *options, **how)
    try:
        server.ready()
        if "--accounts" not in options:
            server.link = link_of(server)
    except BaseException:
        server.kill()
        raise
    return server


def link_of(server):
    """The link, from the command that the server names for it."""
    command = shlex.split(server.wait_for("for clients: lane (link .*)")[1])
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(command) == 0
    return said.getvalue().strip()


def start_client(folder, transport, link, *options, **how):
    """A client that is ready."""
    arguments = ["--transport", transport, "--listen", "127.0.0.1:0", "--log-level", "debug"]
    client = Lane(folder, "client", *arguments, "--server", link, *options, **how)
    try:
        return client.ready()
    except BaseException:
        client.kill()
        raise


@contextlib.contextmanager
def running_pair(folder, transport, server_options=(), client_options=()):
    """(server, client), ready."""
    with (
        start_server(folder / "server", *server_options) as server,
        start_client(folder / "client", transport, server.link, *client_options) as client,
    ):
        yield server, client


def socks5(proxy, host, port, command=1):
    """Ask a SOCKS5 proxy (RFC 1928) for a connection to a name: (socket, reply code)."""
    sock = socket.create_connection(proxy, DEADLINE)
    try:
        name = host.encode()
        sock.sendall(b"\x05\x01\x00\x05" + bytes((command, 0, 3, len(name))) + name + port.to_bytes(2, "big"))
        reply = read_exactly(sock, 2 + 4)
        assert reply[:3] == b"\x05\x00\x05", reply
        read_exactly(sock, {1: 6, 4: 18}[reply[5]])
    except BaseException:
        sock.close()
        raise
    return sock, reply[3]


def connected(proxy, port, host="127.0.0.1"):
    """A socket to the target, through the proxy."""
    sock, code = socks5(proxy, host, port)
    if code:
        sock.close()
        raise ConnectionError(f"reply code {code}")
    return sock


def works(client, origin):
    """Whether an application gets through."""
    try:
        with connected(client.address, origin.echo) as sock:
            sock.settimeout(DEADLINE)
            return echoes(sock)
    except OSError:
        return False


def breaks(sock):
    """Wait for the reset of an application's connection."""
    sock.settimeout(DEADLINE)
    with pytest.raises(ConnectionError):
        read_to_end(sock)


def http_connect(proxy, target, method="CONNECT"):
    """The status that an HTTP proxy answers with."""
    with socket.create_connection(proxy, DEADLINE) as sock:
        sock.sendall(f"{method} {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        return int(read_exactly(sock, 12).split()[1])


def read_exactly(sock, size):
    """`size` bytes; ConnectionError where they end before."""
    data = bytearray()
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise ConnectionError(f"the end after {len(data)} of {size} bytes: {bytes(data)!r}")
        data += more
    return bytes(data)


def echoes(sock, text=b"hello"):
    """Whether what is sent comes back."""
    sock.sendall(text)
    return read_exactly(sock, len(text)) == text


def curl(proxy, kind, *arguments, prefix=()):
    """Run curl through a proxy of `kind` (socks5, socks4, socks4a or http): what it printed."""
    host, port = proxy
    option = {"socks5": ["--socks5-hostname"], "http": ["--proxytunnel", "-x"]}.get(kind, [f"--{kind}"])
    address = f"http://{host}:{port}" if kind == "http" else f"{host}:{port}"
    command = [*prefix, "curl", "-q", "-sSf", "--noproxy", "", *option, address, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, timeout=100, check=False)
    assert result.returncode == 0, (command, result.stderr)
    return result.stdout


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def file_sha256(path):
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
