"""One user's rate on two servers that have their accounts in one Redis: how exactly do they share it?

    python bench/user_servers.py [--rates 8,50,200] [--transport tls] [--secs 10] [--downloads 4]

The user downloads from both servers at once, then from one of them, then from both again. For each rate:
what both got together, of the rate, and the smaller part of the two; the seconds until the one that goes on
had 90 % of the rate over half a second, and until both together were within 10 % again after the other one
came back; and the most that they had in half a second meanwhile, of the rate. It takes redis-server.
"""

import argparse
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from processes import LANE, lane_client, line_with, start
from proxies import free_port
from target import Applications

from lane.link import encode
from lane.users.account import Account
from lane.users.redis_book import RedisBook

LOOK = 0.5
WAIT = 15.0
KEY = bytes([7]) * 32


class Downloads:
    """Endless downloads over one client. `got` bytes so far."""

    def __init__(self, applications, count):
        self.got, self._lock = 0, threading.Lock()
        self._socks = [applications.connect(b"D") for _ in range(count)]
        for sock in self._socks:
            threading.Thread(target=self._read, args=(sock,), daemon=True).start()

    def _read(self, sock):
        buffer = bytearray(1 << 16)
        with suppress(OSError):
            while size := sock.recv_into(buffer):
                with self._lock:
                    self.got += size

    def close(self):
        for sock in self._socks:
            sock.close()


def speeds(*downloads):
    """Bytes a second of each for as long as a look takes."""
    before, begin = [each.got for each in downloads], time.monotonic()
    time.sleep(LOOK)
    took = time.monotonic() - begin
    return [(each.got - was) / took for each, was in zip(downloads, before, strict=True)]


def until(rate, *downloads, most=None):
    """Seconds until all together have 90 % of the rate, and at most `most` times it; and the most, of it."""
    begin, above = time.monotonic(), 0.0
    while time.monotonic() - begin < WAIT:
        part = sum(speeds(*downloads)) / rate
        above = max(above, part)
        if 0.9 <= part <= (most or part):
            break
    return time.monotonic() - begin, above


def measure(args, rate, clients):
    first, second = (Downloads(each, args.downloads) for each in clients)
    time.sleep(3)
    before, begin = (first.got, second.got), time.monotonic()
    time.sleep(args.secs)
    took = time.monotonic() - begin
    both = [(each.got - was) / took for each, was in zip((first, second), before, strict=True)]
    second.close()
    alone, _ = until(rate, first)
    second = Downloads(clients[1], args.downloads)
    again, above = until(rate, first, second, most=1.1)
    for each in (first, second):
        each.close()
    print(
        f"{rate * 8 / 1e6:6.1f} Mbit/s: together {sum(both) / rate:.3f},"
        f" the smaller part {min(both) / sum(both):.2f};"
        f" one alone after {alone:.1f} s, both again after {again:.1f} s, at most {above:.2f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rates", default="8,50,200")
    parser.add_argument("--transport", default="tls")
    parser.add_argument("--secs", type=float, default=10.0)
    parser.add_argument("--downloads", type=int, default=4)
    args = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        port = free_port()
        redis = start(
            stack, "redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", folder, "--save", ""
        )
        line_with(redis, "Ready to accept connections")
        url = f"redis://127.0.0.1:{port}/0"
        target = start(stack, sys.executable, Path(__file__).with_name("target.py"), "serve")
        there = int(line_with(target, "\n"))
        book = RedisBook(url)
        book.add(Account("one", KEY))
        clients = []
        for name in ("first", "second"):
            server = start(
                stack, *LANE, "server", "--state-dir", folder / name, "--listen", "127.0.0.1:0",
                "--allow", "127.0.0.0/8", "--accounts", url,
            )  # fmt: skip
            link = line_with(server, "for clients: ").split()[-1].replace("KEY", encode(KEY))
            proxy = lane_client(stack, args.transport, link, ("--control", "off"))[1]
            clients.append(Applications(there, proxy))
        for megabits in map(float, args.rates.split(",")):
            rate = round(megabits * 125e3)
            book.change("one", rate=rate)
            time.sleep(2)
            measure(args, rate, clients)


if __name__ == "__main__":
    main()
