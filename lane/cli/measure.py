"""Measurement of a transport's cost: the CPU time a byte at both ends, compared with the transport of cost 1.

A client and a server run as separate processes over loopback, so that the CPU time of each can be measured. A
download goes through both, as an application's would. The two transports take turns, since a machine's speed
varies. The result is the `cost` that `--transport auto` uses.
"""

import os
import select
import signal
import socket
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

import gevent.os

from lane import state
from lane.address import Address
from lane.cli import alone, client, option_parser
from lane.cli.exits import ENDS
from lane.config import client_config, server_config
from lane.errors import Closed, ConfigError, UsageError
from lane.link import Link
from lane.plugins import Plugins
from lane.stream import Transport
from lane.text import complain

ROUNDS = 3
SECONDS = 2.0
"""Seconds of a download that are measured."""
WARM = 1.0
"""Seconds of the download before them, which are not measured: slow start is not part of the cost."""
DEADLINE = 30.0
"""Seconds for each step that must succeed."""
_BLOCK = 1 << 20
_FOLDER = Path("/proc")


class Cost(NamedTuple):
    """The cost of a download: CPU seconds a GB at each end, and its rate."""

    client: float
    server: float
    rate: float  # bytes a second

    @property
    def both(self) -> float:
        return self.client + self.server


class Process(NamedTuple):
    """A child process, and the pipe to which it prints."""

    pid: int
    said: int

    def line_with(self, word: str) -> str:
        """The first line with `word`. Raises ConfigError without one; standard error has the reason then."""
        text = ""
        while select.select([self.said], [], [], DEADLINE)[0] and (data := os.read(self.said, 65536)):
            text += data.decode()
            for line in text.splitlines(keepends=True):
                if word in line and line.endswith("\n"):
                    return line.strip()
        raise ConfigError("it could not be measured")

    def listens(self) -> Address:
        """Wait until it listens, and return its address. Raises ConfigError if it does not."""
        return Address.parse(self.line_with("listening on").split()[2])

    def cpu(self) -> float:
        """The CPU seconds that it has used (proc_pid_stat(5)). Raises Closed once it has ended."""
        try:
            fields = (_FOLDER / str(self.pid) / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            raise Closed("a process that is measured has ended") from None
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(name: str, plugins: Plugins) -> int:
    """Measure the transport `name` and print the value for its `cost`. Raises UsageError or ConfigError."""
    transport, standard = plugins.transport(name), _standard(plugins)
    if not (_FOLDER / "self" / "stat").exists():
        raise ConfigError("--measure reads /proc, which this system does not have")
    names = dict.fromkeys([standard.name, transport.name])
    print(f"{ROUNDS} downloads of {SECONDS:g} s over each of {', '.join(names)}, on loopback", flush=True)
    found: dict[str, list[Cost]] = {each: [] for each in names}
    for _ in range(ROUNDS):
        for each, costs in found.items():
            costs.append(_download(each, plugins))
    # Other processes on the machine only add to the cost, so take the smallest result.
    best = {each: min(costs, key=lambda cost: cost.both) for each, costs in found.items()}
    width = max(map(len, names))
    for each, cost in best.items():
        speed = f"{cost.rate * 8 / 1e6:.0f} Mbit/s"
        print(f"{each:{width}}  client {cost.client:.2f}, server {cost.server:.2f} CPU s/GB, {speed}")
    print(f"cost = {float(f'{best[name].both / best[standard.name].both:.2g}'):g}")
    return 0


def _standard(plugins: Plugins) -> Transport:
    """The transport with cost 1. Raises UsageError."""
    for transport in plugins.transports.values():
        if getattr(transport, "cost", None) == 1:
            return transport
    raise UsageError(
        "--measure: there is no transport with a cost of 1 to compare with (lane plugins lists them)"
    )


def _download(name: str, plugins: Plugins) -> Cost:
    """Measure one download, through a new client and a new server. Raises ConfigError."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        loopback = {"transport": name, "listen": "127.0.0.1:0"}
        serving = server_config(
            _options("server", **loopback, host="127.0.0.1", state_dir=folder, allow=["127.0.0.0/8"])
        )
        there = stack.enter_context(_running(lambda: alone.run(serving, plugins)))
        host, port = there.listens()
        kept = state.look(serving.state_dir)
        assert kept.first is not None
        link = str(Link(kept.first.key, Address(host, port), kept.identity.binding))
        going = client_config(_options("client", **loopback, server=link, control="off"))
        here = stack.enter_context(_running(lambda: client.run(going, plugins)))
        entrance = here.listens()
        try:
            sock = stack.enter_context(_application(entrance))
            _receive(sock, WARM)
            before = here.cpu(), there.cpu()
            size, elapsed = _receive(sock, SECONDS)
            used = here.cpu() - before[0], there.cpu() - before[1]
        except (OSError, Closed) as error:
            raise ConfigError(f"{name} could not be measured: {error}") from None
    return Cost(used[0] / size * 1e9, used[1] / size * 1e9, size / elapsed)


def _options(command: str, **changes: object) -> Namespace:
    """The default options with `changes`. Files and variables are not read."""
    namespace = option_parser.defaults(command)
    vars(namespace).update(changes)
    return namespace


@contextmanager
def _running(run: Callable[[], int]) -> Iterator[Process]:
    """Run `run` in a fork of this process, with its plugins, until the end of the context."""
    sys.stdout.flush()
    reading, writing = os.pipe()
    pid = gevent.os.fork()
    if not pid:
        status = 70  # EX_SOFTWARE
        try:
            os.dup2(writing, 1)
            os.close(reading)
            status = run()
        except ENDS as error:
            complain(f"lane: {error}")
        finally:
            os._exit(status)
    os.close(writing)
    try:
        yield Process(pid, reading)
    finally:
        os.close(reading)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


@contextmanager
def _application(entrance: Address) -> Iterator[socket.socket]:
    """A connection through the client to a target that sends as fast as possible. Raises OSError."""
    with socket.create_server(("127.0.0.1", 0)) as target:
        target.settimeout(DEADLINE)
        with socket.create_connection(entrance, DEADLINE) as sock:
            asked = b"\x05\x01\x00" + b"\x05\x01\x00" + Address(*target.getsockname()).pack()
            sock.sendall(asked)  # SOCKS5: no password, CONNECT
            sender = threading.Thread(target=_send, args=(target.accept()[0],), daemon=True)
            sender.start()
            yield sock
        sender.join(DEADLINE)


def _send(sock: socket.socket) -> None:
    block = bytes(_BLOCK)
    with sock, suppress(OSError):
        while True:
            sock.sendall(block)


def _receive(sock: socket.socket, seconds: float) -> tuple[int, float]:
    """Receive for `seconds`. Return the bytes, and the seconds that they took. Raises OSError."""
    buffer, size, begin = bytearray(_BLOCK), 0, time.monotonic()
    while (elapsed := time.monotonic() - begin) < seconds:
        came = sock.recv_into(buffer)
        if not came:
            raise OSError("the connection ended")
        size += came
    return size, elapsed
