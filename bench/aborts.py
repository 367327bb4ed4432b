"""How long do a thousand connections that end at once remain open at the other side?

    python bench/aborts.py [--count 1000] [--busy 2] [--transports quic,tls]
                           [--how reset,close,opening,target] [--patience 70]

A lane client and its server run on loopback, beside `--busy` processes that never wait. All connections are
open, then all end at once. The other side counts the connections that are still open. The ways to end:

    reset      the applications abort (RST), as killed programs do
    close      the applications finish (FIN), and then the target does too
    opening    the applications abort as soon as the proxy reports the connection (--fast-open on)
    target     the target aborts, and the applications count

"last gone" is the time from the first end to the last, in seconds. "after 5 s" and "left" are the connections
that are open after 5 s and after --patience. "lost" connections never reached the target; for `opening`
that is no fault.
"""

import argparse
import selectors
import socket
import struct
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from processes import lane_client, lane_server, start
from tcp import read_exactly

WAYS = ("reset", "close", "opening", "target")
OPENERS = 20
"""Threads that open connections."""
TRIES = 20
QUIET = 3
"""Seconds without an open connection after which no more will arrive."""
RST = struct.pack("ii", 1, 0)  # struct linger: on, 0 seconds


class Open:
    """Watches sockets, in its own thread, until their peers end them.

    `seen` is the number of sockets so far. `last` is the time at which the newest one ended.
    """

    def __init__(self):
        self.sockets, self.seen, self.last = set(), 0, 0.0
        self._watch = selectors.DefaultSelector()
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, sock):
        sock.setblocking(False)
        self.seen += 1
        self.sockets.add(sock)
        self._watch.register(sock, selectors.EVENT_READ)

    def _run(self):
        while True:
            for key, _ in self._watch.select(0.01):
                try:
                    ended = not key.fileobj.recv(65536)
                except BlockingIOError:
                    continue
                except OSError:
                    ended = True
                if ended:
                    self._forget(key.fileobj)
                    key.fileobj.close()

    def _forget(self, sock):
        self.sockets.discard(sock)
        self.last = time.monotonic()
        with suppress(KeyError, ValueError):  # the other thread was quicker
            self._watch.unregister(sock)

    def end(self, how):
        """End all sockets, and stop watching them."""
        for sock in list(self.sockets):
            self._forget(sock)
            end(sock, how)


def end(sock, how):
    if how != "close":
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST)
    sock.close()


def target():
    """Start a server that keeps its connections. Return its port, and the `Open` with the connections."""
    listener, there = socket.create_server(("127.0.0.1", 0), backlog=4096), Open()

    def accept():
        while True:
            there.add(listener.accept()[0])

    threading.Thread(target=accept, daemon=True).start()
    return listener.getsockname()[1], there


def connect(proxy, port):
    """An application's connection through a SOCKS5 proxy, which may refuse some under load."""
    for _ in range(TRIES):
        sock = socket.create_connection(("127.0.0.1", proxy))
        sock.sendall(b"\5\1\0" + b"\5\1\0\1" + socket.inet_aton("127.0.0.1") + struct.pack("!H", port))
        if not read_exactly(sock, 12)[3]:
            return sock
        sock.close()
    raise ConnectionError("the proxy refuses")


def crowd(count, one):
    """Call `one` `count` times, from several threads. Return the seconds since the first call returned."""
    left, first, failed = iter(range(count)), [], []

    def work():
        try:
            for _ in left:
                one()
                first.append(time.monotonic())
        except OSError as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(OPENERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise SystemExit(f"connections could not be opened: {failed[0]}")
    return min(first)


def measure(transport, how, args):
    """Seconds until the last one had ended, and the numbers that are left, open after 5 s, and lost."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        _, link = lane_server(stack, folder, "127.0.0.1:0", "127.0.0.0/8")
        fast = ("--fast-open", "on" if how == "opening" else "off")
        _, proxy = lane_client(stack, transport, link, fast)
        port, there = target()
        here = Open()
        for _ in range(args.busy):
            start(stack, sys.executable, "-c", "while True: pass")
        if how == "opening":
            begin = crowd(args.count, lambda: end(connect(proxy, port), how))
        else:
            crowd(args.count, lambda: here.add(connect(proxy, port)))
            while there.seen < args.count:
                time.sleep(0.01)
            begin = time.monotonic()
            (there if how == "target" else here).end(how)
        counted = here if how == "target" else there
        after = None
        while True:
            now = time.monotonic()
            if after is None and now - begin > 5:
                after = len(counted.sockets)
            quiet = not counted.sockets and now - max(begin, counted.last) > QUIET
            if (quiet and after is not None) or now - begin > args.patience:
                break
            time.sleep(0.01)
        return max(begin, counted.last) - begin, len(counted.sockets), after, args.count - there.seen


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--busy", type=int, default=2, help="processes that never wait")
    parser.add_argument("--transports", default="quic,tls")
    parser.add_argument("--how", default=",".join(WAYS))
    parser.add_argument("--patience", type=float, default=70, help="seconds to wait for the last one")
    args = parser.parse_args()
    print(f"{args.count} connections, {args.busy} busy processes")
    print(f"{'':6}{'':9}{'last gone':>10}{'after 5 s':>11}{'left':>6}{'lost':>6}")
    for transport in args.transports.split(","):
        for how in args.how.split(","):
            secs, left, after, lost = measure(transport, how, args)
            print(f"{transport:6}{how:9}{secs:10.1f}{after:11}{left:6}{lost:6}", flush=True)


if __name__ == "__main__":
    main()
