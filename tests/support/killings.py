"""Connections that talk while processes are killed, and what must hold for each of them whoever dies.

Bytes are exact; nothing reaches a target twice; and an end is an end of data only if the other side meant it.
"""

import errno
import random
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count

from lane.testing.harness import until
from tests.support.processes import DEADLINE, connected

TALKS = 10
"""Connections that talk all the time."""
SIZES = 1, 100, 10_000, 200_000
"""Bytes of their messages."""
REST = 0.1
"""The longest pause between two, in seconds."""
_NAME = 8


class Target:
    """Gives back what comes, and remembers the names with which connections begin, and how they ended."""

    def __init__(self):
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.begun = Counter()
        self.ended = []
        """Of each connection: its name, whether that was an end of data, and the bytes behind the name."""
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self):
        with suppress(OSError):  # the end
            while True:
                threading.Thread(target=self._serve, args=self._listener.accept()[:1], daemon=True).start()

    def _serve(self, sock):
        name, size, clean = b"", 0, False
        with sock, suppress(OSError):
            while len(name) < _NAME and (data := sock.recv(_NAME - len(name))):
                name += data
            if name:
                self.begun[name] += 1
            while data := sock.recv(1 << 16):
                size += len(data)
                sock.sendall(data)
            clean = True
        if name:
            self.ended.append((name, clean, size))


class Talks:
    """Talks through the client at `address`: TALKS that last, and short ones, one after the other."""

    def __init__(self, address):
        self.target = Target()
        self._address = address
        self._over = threading.Event()
        self._finished = {}  # the bytes of those whose application has ended its direction
        self._numbers = count(1)
        self.lasting = []
        """The outcome of each that lasts, at the end: whether it was whole."""

    def _lasting(self):
        return self._talk(lambda said: not self._over.is_set())

    def _short(self):
        while not self._over.wait(0.05):
            self._talk(lambda said: not said)

    def _talk(self, more):
        """Exchange messages while `more(bytes so far)`: whether that went well to both ends."""
        number, size = next(self._numbers), 0
        name, chance = number.to_bytes(_NAME), random.Random(number)
        try:
            with connected(self._address, self.target.port) as sock:
                sock.settimeout(DEADLINE)
                sock.sendall(name)
                while more(size):
                    message = chance.randbytes(chance.choice(SIZES))
                    sock.sendall(message)
                    size += len(message)
                    _receive(sock, message)
                    self._over.wait(chance.uniform(0.0, REST))
                self._finished[name] = size
                sock.shutdown(socket.SHUT_WR)
                assert not sock.recv(1)
        except ConnectionError:
            return False
        except OSError as error:
            if error.errno != errno.ENOTCONN:  # what shutdown() says of a connection that was reset
                raise
            return False
        return True

    def get_through(self):
        """Whether a new one works."""
        return self._talk(lambda said: not said)

    @contextmanager
    def going_on(self):
        """They talk for the time of the context. Then all that must hold is checked."""
        target = self.target
        with ThreadPoolExecutor(TALKS + 1) as pool:
            lasting, short = [pool.submit(self._lasting) for _ in range(TALKS)], pool.submit(self._short)
            try:
                until(lambda: len(target.begun) >= TALKS)
                yield
            finally:
                self._over.set()
            self.lasting = [one.result() for one in lasting]
            short.result()
        until(lambda: len(target.ended) == target.begun.total(), lambda: f"{target.ended} of {target.begun}")
        target.close()
        assert not [name for name, times in target.begun.items() if times > 1]
        for name, clean, size in target.ended:
            assert not clean or self._finished.get(name) == size


def _receive(sock, message):
    size = 0
    while size < len(message):
        data = sock.recv(1 << 16)
        assert data, f"an end of data after {size} of {len(message)} bytes"
        assert data == message[size : size + len(data)]
        size += len(data)
