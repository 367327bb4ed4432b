"""The load on loopback: a target in one process, and applications in another one.

The applications are a separate process (`python bench/target.py load`), so that the benchmark's own work
does not disturb them. It answers commands, one line of JSON each. The data is zeros and is not compared.
bench/load.py compares data, at a tenth of the speed.
"""

import json
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress

from tcp import read_exactly

SIZE = 1 << 18
CHAT_EVERY = 0.05
"""Seconds between two echoes of one connection."""


# The target. The first byte is the application's request.

arrived, counting = [0], threading.Lock()


def serve():
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    while True:
        threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()


def answer(sock):
    try:
        with sock:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            wish = read_exactly(sock, 1)
            if wish == b"D":
                data = bytes(SIZE)
                while True:
                    sock.sendall(data)
            elif wish == b"U":
                buffer = bytearray(1 << 20)
                while size := sock.recv_into(buffer):
                    with counting:
                        arrived[0] += size
            elif wish == b"N":
                sock.sendall(arrived[0].to_bytes(8))
            elif wish == b"R":
                read_exactly(sock, 511)
                sock.sendall(bytes(4096))
            elif wish == b"P":
                sock.sendall(b"!")
            elif wish == b"C":
                while data := sock.recv(4096):
                    sock.sendall(data)
            elif wish == b"M":
                sock.sendall(bytes(1 << 20))
            sock.recv(1)
    except OSError:
        pass


# The applications.


def together(work, count):
    """Run `work` in `count` threads, and wait for all of them."""
    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


class Applications:
    def __init__(self, target, proxy):
        self.target, self.proxy = target, proxy
        self.counts, self.kept = [], []

    def connect(self, wish=b""):
        """Connect, and send `wish` as soon as the proxy reports the connection."""
        sock = socket.create_connection(("127.0.0.1", self.proxy or self.target))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.proxy:
            sock.sendall(b"\5\1\0")
            assert read_exactly(sock, 2) == b"\5\0", "the proxy refused to speak without a password"
            sock.sendall(b"\5\1\0\1" + socket.inet_aton("127.0.0.1") + struct.pack("!H", self.target))
            head = read_exactly(sock, 10)
            assert head[1] == 0, f"the proxy refused: {head[1]}"
        if wish:
            sock.sendall(wish)
        return sock

    def start(self, way, streams):
        self.counts = [0] * streams
        for number in range(streams):
            threading.Thread(target=getattr(self, way), args=(number,), daemon=True).start()

    def down(self, number):
        sock, buffer = self.connect(b"D"), bytearray(1 << 20)
        while size := sock.recv_into(buffer):
            self.counts[number] += size

    def up(self, number):
        sock, data = self.connect(b"U"), bytes(SIZE)
        while True:
            self.counts[number] += sock.send(data)

    def each(self):
        """The bytes that each transfer has moved, and the time."""
        return self.counts, time.monotonic()

    def moved(self):
        """The bytes that all transfers have moved, and the time."""
        return sum(self.counts), time.monotonic()

    def arrived(self):
        """The bytes that the target has of all uploads, and the time."""
        with self.connect(b"N") as sock:
            return int.from_bytes(read_exactly(sock, 8)), time.monotonic()

    def exchanges(self, secs):
        times, end = [], time.monotonic() + secs
        while (begin := time.monotonic()) < end:
            with self.connect(b"R" + bytes(511)) as sock:
                read_exactly(sock, 4096)
            times.append((time.monotonic() - begin) * 1000)
        return times

    def connections(self, secs, workers):
        end, counts = time.monotonic() + secs, [0] * workers

        def work(number):
            while time.monotonic() < end:
                with self.connect(b"P") as sock:
                    read_exactly(sock, 1)
                counts[number] += 1

        begin, numbers = time.monotonic(), iter(range(workers))
        together(lambda: work(next(numbers)), workers)
        return sum(counts), time.monotonic() - begin

    def opened(self, count, workers):
        """Open `count` connections with an exchange on each, and keep them. Return the seconds it took."""
        left, lock = iter(range(count)), threading.Lock()

        def work():
            while True:
                with lock:
                    if next(left, None) is None:
                        return
                sock = self.connect(b"R" + bytes(511))
                read_exactly(sock, 4096)
                self.kept.append(sock)

        begin = time.monotonic()
        together(work, workers)
        return time.monotonic() - begin

    def chat(self, count, secs):
        """Echoes of 64 bytes on each of `count` open connections, 20 times a second: their milliseconds."""
        socks, times = [self.connect(b"C") for _ in range(count)], []
        for sock in socks:  # a proxy may reply before it has reached the target
            sock.sendall(bytes(64))
        for sock in socks:
            read_exactly(sock, 64)
        end, turns = time.monotonic() + secs, iter(range(count))

        def work():
            number = next(turns)
            due = time.monotonic() + number * CHAT_EVERY / count
            while due < end:
                time.sleep(max(0.0, due - time.monotonic()))
                begin = time.monotonic()
                socks[number].sendall(bytes(64))
                read_exactly(socks[number], 64)
                times.append((time.monotonic() - begin) * 1000)
                due = max(due + CHAT_EVERY, time.monotonic())

        together(work, count)
        for sock in socks:
            sock.close()
        return times

    def hold(self, count):
        buffer = bytearray(1 << 20)
        for _ in range(count):
            sock, left = self.connect(b"M"), 1 << 20
            while left:
                left -= sock.recv_into(buffer)
            self.kept.append(sock)
        return len(self.kept)

    def stall(self, count):
        """Start endless downloads, of which nobody reads more than 1 MB."""
        for _ in range(count):
            sock = self.connect(b"D")
            sock.settimeout(2)
            with suppress(TimeoutError):  # some proxies stop all once the first ones are not read
                read_exactly(sock, 1 << 20)
            self.kept.append(sock)
        return len(self.kept)

    def run(self):
        for line in sys.stdin:
            name, *arguments = json.loads(line)
            print(json.dumps(getattr(self, name)(*arguments)), flush=True)


class Load:
    """Applications in another process, and their target. Both end with `stack`. `proxy` is a port or None.

    `other` starts more applications with the same target, in one more process. They may have another proxy.
    `apart` starts more with a target of their own.
    `prefix` is a command that runs the applications.
    """

    def __init__(self, stack, start, proxy, target=None, prefix=()):
        if target is None:
            serving = start(stack, sys.executable, __file__, "serve")
            while not (target := serving.said.read_text()).endswith("\n"):
                time.sleep(0.01)
        self.apart = lambda: Load(stack, start, proxy, None, prefix)
        self.other = lambda other=proxy: Load(stack, start, other, target, prefix)
        command = [*map(str, prefix), sys.executable, __file__, "load", target.strip(), str(proxy or 0)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        stack.callback(self._process.wait)
        stack.callback(self._process.kill)

    def __getattr__(self, name):
        def call(*arguments):
            self._process.stdin.write(json.dumps([name, *arguments]) + "\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
            if not answer:
                raise SystemExit(f"the load ended at {name}")
            return json.loads(answer)

        return call


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve()
    else:
        Applications(int(sys.argv[2]), int(sys.argv[3])).run()
