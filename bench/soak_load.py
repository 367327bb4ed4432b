"""The applications of bench/soak.py: they use all protocols of a lane client, and check the received data.

    python bench/soak_load.py ENDS [--kinds NAMES] [--every SECS] [--secs SECS] [--user NUMBER]

ENDS is JSON: the client's ports and the target's. A thread for each kind of exchange repeats it about every
--every seconds. Each kind in LONG is one session that lasts to the end. The program ends after --secs, or
with SIGTERM. It prints a line of JSON for each failure, with its times on the monotonic clock, and one at
the end. Wrong data, and answers that end cleanly too early, are `grave`.
"""

import argparse
import encodings.idna
import json
import os
import random
import signal
import socket
import sys
import threading
import time
from types import SimpleNamespace

from packets import Association
from pattern import Corrupt, check, part
from soak_kinds import (
    HOST,
    SELDOM,
    SHORT,
    TIMEOUT,
    Packets,
    Truncated,
    check_count,
    dial,
    http_connect,
    socks5,
)
from soak_target import COUNT, HEAD, UDP_HOST, paced
from tcp import read_exactly

LAST = 60
"""Seconds in which the long sessions must end."""


# Sessions that last to the end


def down(ends, chance, load):
    """A long download."""
    phase, got, held, told = chance.randrange(1 << 20), 0, b"", False
    with socks5(ends, HOST, ends.tcp)[0] as sock:
        sock.sendall(HEAD.pack(b"D", phase, 0, load.rate))
        while True:
            if load.over.is_set() and not told:
                told = True
                sock.shutdown(socket.SHUT_WR)
            data = sock.recv(1 << 17)
            held += data
            size = len(held) - COUNT.size  # the last bytes may be the count
            if not data:
                break
            if size > 0:
                check(held[:size], phase + got)
                got, held = got + size, held[size:]
            load.moved("down", len(data))
    if held != COUNT.pack(got):
        raise Truncated(f"an end after {got} bytes")


def up(ends, chance, load):
    """A long upload."""
    phase = chance.randrange(1 << 20)
    with dial(ends.forward) if chance.random() < 0.5 else socks5(ends, HOST, ends.tcp)[0] as sock:
        sock.sendall(HEAD.pack(b"U", phase, 0, 0))
        size = paced(sock, phase, 0, load.rate, load.over.is_set)
        load.moved("up", size)
        sock.shutdown(socket.SHUT_WR)
        sock.settimeout(LAST)
        check_count(sock, size)


def idle(ends, chance, load):
    """A session with rare exchanges."""
    talk(ends, chance, load, 20 * load.every)


def chat(ends, chance, load):
    """A session with frequent exchanges."""
    talk(ends, chance, load, load.every / 4)


def talk(ends, chance, load, every):
    with http_connect(ends, HOST, ends.tcp) as sock:
        sock.sendall(HEAD.pack(b"E", 0, 0, 0))
        while True:
            phase, size = chance.randrange(1 << 20), chance.randrange(1, 2000)
            sock.sendall(part(phase, size))
            check(read_exactly(sock, size), phase)
            load.moved("talk", size)
            if load.over.wait(every * chance.uniform(0.5, 1.5)):
                break
        sock.shutdown(socket.SHUT_WR)
        if sock.recv(1):
            raise Corrupt("more came than was sent")


def packets(ends, chance, load):
    """One UDP association that lasts to the end."""
    with Packets(lambda: Association((HOST, ends.proxy), (UDP_HOST, ends.udp))) as association:
        while not load.over.wait(load.every / 10):
            association.ask(chance)


LONG = {"down": down, "up": up, "idle": idle, "chat": chat, "packets": packets}
MANY = {"idle": 6, "chat": 2}


class Load:
    """The threads that repeat the exchanges, and their counts."""

    def __init__(self, ends, every, rate):
        self.every, self.rate = every, rate
        self.over = threading.Event()
        self._ends = ends
        self._lock = threading.Lock()
        self._done, self._bytes, self._longest = {}, {}, {}
        self._threads = []

    def start(self, kind):
        work = self._last if kind in LONG else self._repeat
        for _ in range(MANY.get(kind, 1)):
            self._threads.append(threading.Thread(target=work, args=(kind,), name=kind, daemon=True))
            self._threads[-1].start()

    def moved(self, kind, size):
        with self._lock:
            self._bytes[kind] = self._bytes.get(kind, 0) + size

    def end(self):
        """Wait until all threads end; one that does not is a failure. Return the counts."""
        self.over.set()
        deadline = time.monotonic() + LAST + TIMEOUT
        for thread in self._threads:
            thread.join(max(0, deadline - time.monotonic()))
            if thread.is_alive():
                self._failed(thread.name, deadline - LAST - TIMEOUT, TimeoutError("it does not end"))
        return {"done": self._done, "bytes": self._bytes, "longest": self._longest}

    def _repeat(self, kind):
        chance, every, due = random.Random(), self.every * SELDOM.get(kind, 1), time.monotonic()
        while True:
            # The period is from start to start, so that a busy machine changes the load little.
            due = max(due + every * chance.uniform(0.5, 1.5), time.monotonic())
            if self.over.wait(due - time.monotonic()):
                return
            self._try(kind, lambda: SHORT[kind](self._ends, chance))

    def _last(self, kind):
        """Run one long session, and a new one after each failure."""
        chance = random.Random()
        while not self.over.is_set():
            self._try(kind, lambda: LONG[kind](self._ends, chance, self))
            self.over.wait(1)

    def _try(self, kind, what):
        begin = time.monotonic()
        try:
            what()
        except (OSError, Corrupt) as error:
            self._failed(kind, begin, error)
        except Exception as error:  # a bug in this program must be reported
            self._failed(kind, begin, error, grave=True)
        else:
            with self._lock:
                self._done[kind] = self._done.get(kind, 0) + 1
                if kind in SHORT:
                    took = round(time.monotonic() - begin, 2)
                    self._longest[kind] = max(self._longest.get(kind, 0), took)

    def _failed(self, kind, begin, error, grave=False):
        line = {
            "kind": kind,
            "begin": begin,
            "end": time.monotonic(),
            "error": f"{type(error).__name__}: {error}",
            "grave": grave or isinstance(error, Corrupt),
            "long": kind in LONG,
        }
        with self._lock:
            print(json.dumps(line), flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ends", type=json.loads)
    parser.add_argument("--kinds")
    parser.add_argument("--every", type=float, default=1.0)
    parser.add_argument("--rate", type=int, default=100_000, help="bytes a second of what lasts to the end")
    parser.add_argument("--secs", type=float)
    parser.add_argument("--user", type=int, help="whose the applications are")
    args = parser.parse_args()
    if args.user is not None:
        assert encodings.idna  # needed to connect; loaded while its file is readable
        os.setuid(args.user)
    kinds = args.kinds.split(",") if args.kinds else [*SHORT, *LONG]
    load = Load(SimpleNamespace(**args.ends), args.every, args.rate)
    # Block the signal and wait for it. A handler might need a lock that the interrupted code holds.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    for kind in kinds:
        load.start(kind)
    print(json.dumps({"began": time.monotonic()}), flush=True)
    if args.secs:
        signal.sigtimedwait({signal.SIGTERM}, args.secs)
    else:
        signal.sigwait({signal.SIGTERM})
    print(json.dumps(load.end()), flush=True)
    sys.stdout.flush()
    os._exit(0)  # do not wait for threads that hang


if __name__ == "__main__":
    main()
