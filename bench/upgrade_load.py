"""The applications of bench/upgrade.py: many sessions at once, and how long each of them stood still.

    python bench/upgrade_load.py crowd --proxy ADDRESS --tcp ADDRESS --udp ADDRESS [--kinds both=100,udp=20]
    python bench/upgrade_load.py crowd --ports 7001,7002 --kinds both=2    (ports of reverse forwards)
    python bench/upgrade_load.py peers    (a UDP echo that tells each sender its port; prints its own)

The target of TCP is bench/soak_target.py, and every byte is compared with its pattern. SIGUSR1 ends the quiet
time, whose figures are printed apart. SIGTERM ends the load. Times are in seconds. For each kind of session:

    gap     the longest time without a byte
    delay   the longest time from when a byte was sent until its echo was back
"""

# ruff: noqa: E402
from gevent import monkey

monkey.patch_all()  # hundreds of threads would cost more than what is measured

import argparse
import json
import signal
import socket
import struct
import sys
import time
from collections import deque
from threading import Event, Thread
from types import SimpleNamespace

from packets import Association
from pattern import Corrupt, check, part
from soak_kinds import dial, socks5
from soak_target import HEAD, UDP_HOST
from tcp import address, read_exactly

EVERY = 0.1
"""Seconds between two pieces of each session: more would keep the machine busy, and blur what is measured."""
PIECE = 1000
"""Bytes of a piece."""
REST = 3.0
"""Seconds between two messages of an idle session."""
PATIENCE = 60.0
"""Seconds without a byte after which a session counts as dead."""
STALL = 2.0
"""Seconds from which a session counts as one that stood still, and is listed."""
ENDLESS = 1 << 40
CROWD = {"both": 100, "half": 20, "udp": 20, "idle": 53, "chat": 1, "new": 1}
"""Kinds of sessions, and how many of each there are."""


class Tally:
    """The worst times of one kind."""

    def __init__(self):
        self.count = self.alive = self.lost = self.sent = 0
        self.errors = []
        self.reset()

    def reset(self):
        self.gap = self.delay = 0.0
        self.stalls = []  # the time of each end since 1970, the session's number, and for how long

    def note(self, **times):
        for name, value in times.items():
            if value > getattr(self, name):
                setattr(self, name, value)

    def stood(self, number, seconds):
        """Note that a session stood still until now, if it was long."""
        if seconds > STALL:
            self.stalls.append((round(time.time(), 2), number, round(seconds, 2)))

    def said(self):
        return {"gap": round(self.gap, 3), "delay": round(self.delay, 3)}


class Crowd:
    def __init__(self, args):
        self.args = args
        self.over, self.ready = Event(), 0
        self.tallies = {}
        self.corrupt = None

    def run(self, kind, number, tally):
        try:
            getattr(self, kind)(number, tally)
            tally.alive += 1
        except Corrupt as caught:
            self.corrupt = caught
        except OSError as caught:
            tally.errors.append(f"{kind} {number} after {time.time() - self.began:.1f} s: {caught!r}")

    def connect(self, number=0):
        """A connection to the target: through the proxy, or to a port of a reverse forward."""
        if self.args.ports:
            sock = dial(self.args.ports[number % len(self.args.ports)])
        else:
            host, port = self.args.tcp
            sock = socks5(SimpleNamespace(proxy=self.args.proxy[1]), host, port)[0]
        sock.settimeout(PATIENCE)
        return sock

    def opened(self):
        self.ready += 1

    # Kinds of sessions: each returns once all was right.

    def both(self, number, tally):
        """Data go up and come back all the time. At the end it is closed in both directions, in turn."""
        sent, times, broke = 0, deque(), []
        phase = number * 997
        with self.connect(number) as sock:
            sock.sendall(HEAD.pack(b"E", 0, 0, 0))
            self.opened()

            def send():
                nonlocal sent
                due = time.monotonic() + EVERY * (number % 100) / 100
                while not self.over.is_set():
                    time.sleep(max(0.0, due - time.monotonic()))
                    due = max(due + EVERY, time.monotonic())
                    times.append((sent + PIECE, time.monotonic()))
                    try:
                        sock.sendall(part(phase + sent, PIECE))
                    except OSError as caught:  # the reader sees an end then: the kernel says it once
                        broke.append(caught)
                        return
                    sent += PIECE
                sock.shutdown(socket.SHUT_WR)

            Thread(target=send, daemon=True).start()
            try:
                self.receive(sock, number, phase, tally, times)
            except OSError as caught:
                raise broke[0] if broke else caught from None

    def receive(self, sock, number, phase, tally, times, stop=lambda: False):
        got, last = 0, None
        while not stop() and (data := sock.recv(65536)):
            now = time.monotonic()
            check(data, phase + got)
            got += len(data)
            if last is not None:
                tally.note(gap=now - last)
                tally.stood(number, now - last)
            last = now
            while times and times[0][0] <= got:
                tally.note(delay=now - times.popleft()[1])
        if not stop() and times:
            raise ConnectionError(f"a clean end after {got} of {times[-1][0]} bytes")

    def half(self, number, tally):
        """The application has closed its direction, and the target goes on sending."""
        with self.connect(number) as sock:
            sock.sendall(HEAD.pack(b"D", number, ENDLESS, int(PIECE / EVERY)))
            sock.shutdown(socket.SHUT_WR)
            self.opened()
            self.receive(sock, number, number, tally, (), self.over.is_set)
            if not self.over.is_set():
                raise ConnectionError("an end of data")

    def chat(self, number, tally, pause=EVERY):
        """Messages, and the answer to each, as on a WebSocket."""
        with self.connect(number) as sock:
            sock.sendall(HEAD.pack(b"E", 0, 0, 0))
            self.opened()
            at = 0
            while True:
                asked = part(number + at, 100)
                began = time.monotonic()
                sock.sendall(asked)
                check(read_exactly(sock, 100), number + at)
                tally.note(delay=time.monotonic() - began)
                tally.stood(number, time.monotonic() - began)
                at += 1
                if self.over.wait(pause):
                    return

    def idle(self, number, tally):
        """A message now and then."""
        time.sleep(REST * (number % 20) / 20)
        self.chat(number, tally, REST)

    def new(self, number, tally):
        """New connections, one after the other: from the connection to the proxy to the first byte back."""
        self.opened()
        while not self.over.wait(EVERY):
            began = time.monotonic()
            with self.connect(number) as sock:
                sock.sendall(HEAD.pack(b"E", 0, 0, 0) + b"x")
                read_exactly(sock, 1)
                tally.note(delay=time.monotonic() - began)
            tally.sent += 1

    def udp(self, number, tally):
        """An association that must keep its port on the server. Single packets may be lost."""
        link = Association(self.args.proxy, self.args.udp)
        link.udp.connect(link.where)
        peers, times, last, fresh = set(), {}, None, time.monotonic()
        self.opened()
        due, asked = time.monotonic(), 0
        with link.tcp, link.udp:
            while not self.over.is_set() or time.monotonic() - fresh > 1:  # at the end, there are answers
                now = time.monotonic()
                if now >= due:
                    asked += 1
                    times[asked] = now
                    link.send(struct.pack("!IH", asked, 0) + part(asked, 200))
                    due = max(due + EVERY, now)
                answer = link.recv(due - time.monotonic())
                if answer is None:
                    if now - fresh > PATIENCE:
                        raise TimeoutError("no answers any more")
                    continue
                key, port = struct.unpack_from("!IH", answer)
                check(answer[6:], key)
                now = time.monotonic()
                peers.add(port)
                if last is not None:
                    tally.note(gap=now - last)
                    tally.stood(number, now - last)
                last = fresh = now
                if key in times:
                    tally.note(delay=now - times.pop(key))
            link.tcp.setblocking(False)
            try:
                if not link.tcp.recv(1):
                    raise ConnectionError("the association was closed")
            except BlockingIOError:
                pass
        tally.sent += asked
        tally.lost += len(times)
        if len(peers) > 1:
            raise ConnectionError(f"the association changed its port: {sorted(peers)}")

    # The whole.

    def main(self):
        args, quiet = self.args, {}
        self.began = time.time()

        def begin(*_):
            for kind, tally in self.tallies.items():
                quiet[kind] = tally.said()
                tally.reset()

        signal.signal(signal.SIGUSR1, begin)
        signal.signal(signal.SIGTERM, lambda *_: self.over.set())
        threads = []
        for kind in CROWD:
            tally = self.tallies[kind] = Tally()
            tally.count = args.kinds.get(kind, 0)
            threads += [
                Thread(target=self.run, args=(kind, number, tally), daemon=True)
                for number in range(tally.count)
            ]
        for thread in threads:
            thread.start()
            time.sleep(0.01)
        while self.ready < len(threads) and not any(tally.errors for tally in self.tallies.values()):
            time.sleep(0.05)
        for tally in self.tallies.values():
            tally.reset()
        print(f"began {time.time()}", flush=True)
        while not self.over.wait(0.2):
            if self.corrupt:
                break
        until = time.monotonic() + PATIENCE
        for thread in threads:
            thread.join(max(0.0, until - time.monotonic()))
        if self.corrupt:
            print(f"CORRUPT DATA: {self.corrupt}", flush=True)
            sys.exit(3)
        return {
            kind: tally.said()
            | {"count": tally.count, "alive": tally.alive, "quiet": quiet.get(kind)}
            | {"sent": tally.sent, "lost": tally.lost, "errors": tally.errors[:5], "stalls": tally.stalls}
            for kind, tally in self.tallies.items()
            if tally.count
        }


def peers():
    """Answer each packet with the sender's port in its bytes 4 and 5."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind((UDP_HOST, 0))
        print("ready", sock.getsockname()[1], flush=True)
        while True:
            data, where = sock.recvfrom(65535)
            sock.sendto(data[:4] + where[1].to_bytes(2, "big") + data[6:], where)


def ports(text):
    return [int(one) for one in text.split(",")]


def kinds(text):
    return {kind: int(count) for kind, _, count in (one.partition("=") for one in text.split(","))}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("test", choices=("crowd", "peers"))
    parser.add_argument("--proxy", type=address)
    parser.add_argument("--tcp", type=address)
    parser.add_argument("--udp", type=address)
    parser.add_argument("--ports", type=ports)
    parser.add_argument("--kinds", type=kinds, default=CROWD)
    args = parser.parse_args()
    if args.test == "peers":
        peers()
    print(json.dumps(Crowd(args).main()), flush=True)


if __name__ == "__main__":
    main()
