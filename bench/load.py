"""The application in the benchmarks of networks: it loads a proxy (or none) and prints its results as JSON.

    python bench/load.py down|up      [--proxy HOST:PORT] [--secs 10] [--on] [--series SECS]
    python bench/load.py share        [--proxy HOST:PORT] [--secs 10] [--count 20]: downloads at once
    python bench/load.py exchanges    [--proxy HOST:PORT] [--count 100] [--secs 120] [--timeout 30]
    python bench/load.py crowd        [--proxy HOST:PORT] [--count 50]: exchanges that begin together
    python bench/load.py fetch|push   [--proxy HOST:PORT] [--size 2000000]: a transfer of so many bytes
    python bench/load.py echo         a UDP echo, to be run at the other end
    python bench/load.py source       the peer of `fetch` and `push`, to be run at the other end
    python bench/load.py pings        [--secs 10]: round trips to it, every 20 ms

The peer of the first three lines is `measure.py server` of netlab (--target). Exchanges are timed in two
ways, which measure.py's own client does not do: from the start, and from the proxy's reply on. Every byte
is compared with measure.py's pattern. A difference ends the program with exit status 3. With --on, a bulk
transfer continues until SIGTERM. With --series SECS, a download prints its start time, the bytes in each
SECS seconds, and its gaps.
"""

import argparse
import json
import select
import signal
import socket
import struct
import sys
import threading
import time

from pattern import CHUNK, Corrupt, check, part, request
from tcp import TIMEOUT, address, connect, read_exactly

ECHO_PORT, SOURCE_PORT = 7007, 7008
FOREVER = 100_000
GAP = 0.1
"""Seconds without a byte that --series reports as a gap."""


class Marks:
    """The rate in each whole second, Mbit/s."""

    def __init__(self, begin):
        self._begin, self._last, self.rates = begin, 0, []

    def add(self, now, size):
        while now - self._begin >= len(self.rates) + 1:
            self.rates.append(round((size - self._last) * 8 / 1e6, 2))
            self._last = size


class Trace:
    """The bytes of each `step` seconds, and the times without any: [from, how long], in seconds."""

    def __init__(self, begin, step):
        self._begin, self._step, self._last = begin, step, begin
        self.series, self.gaps = [0], []

    def add(self, now, count):
        if now - self._last >= GAP and count:
            self.gaps.append([round(self._last - self._begin, 3), round(now - self._last, 3)])
        while now - self._begin >= len(self.series) * self._step:
            self.series.append(0)
        self.series[-1] += count
        self._last = now if count else self._last

    def end(self, now):
        """Finish: the last gap may last until the end, and the last step may be shorter."""
        if now - self._last >= GAP:
            self.gaps.append([round(self._last - self._begin, 3), round(now - self._last, 3)])
        self.series.pop()
        return {"step": self._step, "series": self.series, "gaps": self.gaps}


class Told:
    """Whether SIGTERM has arrived.

    A threading.Event would not work: its set() takes a lock, which the interrupted code may hold.
    """

    def __init__(self):
        self._told = False
        signal.signal(signal.SIGTERM, self._tell)

    def _tell(self, *_):
        self._told = True

    def __bool__(self):
        return self._told


def down(args):
    told, secs = Told(), FOREVER if args.on else args.secs
    begin = now = time.monotonic()
    size, error, marks, buffer = 0, None, Marks(begin), bytearray(CHUNK)
    trace = Trace(begin, args.series or secs)
    if args.series:
        print(f"began {time.time()}", flush=True)
    try:
        with connect(args.target, args.proxy) as sock:
            sock.sendall(request(b"D", int(secs * 1000) + 60000))
            while now - begin < secs and not told:
                sock.settimeout(max(0.01, min(0.2, secs - (now - begin))))
                try:
                    count = sock.recv_into(buffer)
                except TimeoutError:
                    count = None
                if count == 0:
                    raise ConnectionError("closed early")
                now = time.monotonic()
                marks.add(now, size)  # these bytes belong to the current second
                trace.add(now, count or 0)
                if count:
                    check(buffer[:count], size)
                    size += count
    except OSError as caught:
        error = str(caught) or type(caught).__name__
        now = time.monotonic()
    marks.add(now, size)
    trace.add(now, 0)
    result = {"bytes": size, "secs": now - begin, "per_second": marks.rates, "error": error}
    return {**result, **trace.end(now)} if args.series else result


def share(args):
    """Downloads that begin together: the bytes of each in --secs. One that is not answered has none."""
    begin = time.monotonic()
    sizes, errors = [0] * args.count, []

    def run(number):
        buffer = bytearray(CHUNK)
        try:
            with connect(args.target, args.proxy, args.secs) as sock:
                sock.sendall(request(b"D", int(args.secs * 1000) + 60000))
                while (left := begin + args.secs - time.monotonic()) > 0:
                    sock.settimeout(max(0.01, left))
                    count = sock.recv_into(buffer)
                    if not count:
                        raise ConnectionError("closed early")
                    check(buffer[:count], sizes[number])
                    sizes[number] += count
        except TimeoutError:
            pass
        except (OSError, Corrupt) as caught:
            errors.append(caught)

    together([threading.Thread(target=run, args=(number,)) for number in range(args.count)])
    for error in errors:
        if isinstance(error, Corrupt):
            raise error
    return {"sizes": sizes, "errors": [str(error) or type(error).__name__ for error in errors]}


def up(args):
    """One upload, or with --on many in a row. Only a complete upload is confirmed without a half-close, and
    not every proxy supports half-close."""
    told = Told()
    begin = time.monotonic()
    size, error = 0, None
    try:
        size = upload(args)
        while args.on and not told:
            size += upload(args)
    except OSError as caught:
        error = str(caught) or type(caught).__name__
    return {"bytes": size, "secs": time.monotonic() - begin, "error": error}


def upload(args):
    """The bytes that the peer received and confirmed, and the seconds from the first byte on."""
    with connect(args.target, args.proxy) as sock:
        sock.settimeout(args.secs + TIMEOUT)
        sock.sendall(request(b"U", int(args.secs * 1000)))
        threading.Thread(target=pump, args=(sock,), daemon=True).start()
        answer = json.loads(read_exactly(sock, *struct.unpack(">I", read_exactly(sock, 4))))
    if answer["corrupt"]:
        raise Corrupt("the peer got other data than was sent")
    return answer["bytes"]


def pump(sock):
    size = 0
    try:
        while True:
            size += sock.send(part(size, CHUNK))
    except OSError:
        pass  # the peer has had enough


def exchanges(args):
    """Exchanges of 512 bytes up and 4 KB down, each on a new connection: milliseconds."""
    found = {"whole": [], "after_connect": [], "errors": []}
    end = time.monotonic() + args.secs
    for number in range(args.count):
        if time.monotonic() > end:
            break
        exchange(args, number, found)
    return found


def exchange(args, number, found):
    begin = time.monotonic()
    try:
        with connect(args.target, args.proxy, args.timeout) as sock:
            connected = time.monotonic()
            sock.sendall(request(b"R", number) + part(8, 504))
            check(read_exactly(sock, 4096), number)
            done = time.monotonic()
    except OSError as caught:
        found["errors"].append(str(caught) or type(caught).__name__)
    else:
        found["whole"].append(round((done - begin) * 1000, 2))
        found["after_connect"].append(round((done - connected) * 1000, 2))


def crowd(args):
    """Exchanges that begin at the same time."""
    found = {"whole": [], "after_connect": [], "errors": []}
    start = threading.Barrier(args.count)

    def run(number):
        start.wait()
        exchange(args, number, found)

    together([threading.Thread(target=run, args=(number,)) for number in range(args.count)])
    return found


def together(threads):
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def echo(args):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.bind((args.target[0], ECHO_PORT))
        print("ready", flush=True)
        while True:
            sock.sendto(*sock.recvfrom(100))


def source(args):
    """Send, or take, as many bytes as each connection asks for."""
    with socket.create_server((args.target[0], SOURCE_PORT)) as server:
        print("ready", flush=True)
        while True:
            sock, _ = server.accept()
            threading.Thread(target=serve, args=(sock,), daemon=True).start()


def serve(sock):
    with sock:
        way, size = struct.unpack(">cI", read_exactly(sock, 5))
        if way == b"D":
            for offset in range(0, size, CHUNK):
                sock.sendall(part(offset, min(CHUNK, size - offset)))
            sock.recv(1)  # until the peer leaves
        else:
            for offset in range(0, size, CHUNK):
                check(read_exactly(sock, min(CHUNK, size - offset)), offset)
            sock.sendall(b"!")


def fetch(args):
    """One download of --size bytes: seconds from before it connects."""
    begin = time.monotonic()
    with connect((args.target[0], SOURCE_PORT), args.proxy) as sock:
        sock.sendall(struct.pack(">cI", b"D", args.size))
        for offset in range(0, args.size, CHUNK):
            check(read_exactly(sock, min(CHUNK, args.size - offset)), offset)
        return {"secs": time.monotonic() - begin}


def push(args):
    """One upload of --size bytes: seconds from before it connects until the peer has confirmed them."""
    begin = time.monotonic()
    with connect((args.target[0], SOURCE_PORT), args.proxy) as sock:
        sock.sendall(struct.pack(">cI", b"U", args.size))
        for offset in range(0, args.size, CHUNK):
            sock.sendall(part(offset, min(CHUNK, args.size - offset)))
        read_exactly(sock, 1)
        return {"secs": time.monotonic() - begin}


def pings(args):
    """Round trips of small datagrams every 20 ms, in milliseconds: over the same link, without the proxy."""
    rtts, sent = [], 0
    begin = time.monotonic()
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.connect((args.target[0], ECHO_PORT))
        while (now := time.monotonic()) < begin + args.secs + 2:
            due = begin + sent * 0.02
            sending = due < begin + args.secs
            if sending and now >= due:
                sock.send(struct.pack(">d", now))
                sent += 1
            elif not sending and len(rtts) == sent:
                break
            elif select.select([sock], [], [], due - now if sending else 0.1)[0]:
                (then,) = struct.unpack(">d", sock.recv(100))
                rtts.append(round((time.monotonic() - then) * 1000, 2))
    return {"rtt": rtts, "lost": sent - len(rtts)}


def main():
    kinds = down, up, share, exchanges, crowd, fetch, push, echo, source, pings
    tests = {test.__name__: test for test in kinds}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("test", choices=tests)
    parser.add_argument("--target", type=address, default="10.9.0.2:7000")
    parser.add_argument("--proxy", type=address)
    parser.add_argument("--secs", type=float, default=10)
    parser.add_argument("--on", action="store_true", help="until SIGTERM")
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--size", type=int, default=2_000_000, help="bytes")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, help="of an exchange, seconds")
    parser.add_argument("--series", type=float, metavar="SECS")
    args = parser.parse_args()
    try:
        print(json.dumps(tests[args.test](args)))
    except Corrupt as caught:
        print(f"CORRUPT DATA: {caught}", file=sys.stderr)
        sys.exit(3)


if __name__ == "__main__":
    main()
