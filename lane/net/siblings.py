"""This process among the workers of a server (`lane server --workers`), and what it may send to the others.

Without workers there is one process, the only one of its kind: then nothing here has an effect.

A connection ID of a worker names it by its first byte, modulo the number of workers: see `lane.net.steering`.
A packet can still reach another worker, for example if the kernel has joined packets of two connections. That
worker hands it over. This takes a socket pair for each worker, which loses messages rather than wait, as a
network does.
"""

import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from gevent import socket as gsocket

from lane.fair import maybe_yield
from lane.supervisor import report, supervise

LARGEST = 1 << 17
"""The longest message, bytes: more than the largest datagram."""


class Siblings:
    """The worker `index` of `count`. `inboxes` has, for each, the end to send to it and its own end.

    `before`: the end to send to the process that this one has succeeded, if any.
    """

    def __init__(
        self,
        index: int = 0,
        count: int = 1,
        inboxes: Sequence[tuple[socket.socket, socket.socket]] = (),
        before: socket.socket | None = None,
    ) -> None:
        self.index = index
        self.count = count
        self._inboxes = inboxes
        self._before = before
        self._receivers: dict[str, Callable[[bytes], None]] = {}
        self._reading: Any = None

    def named(self, identifier: bytes) -> bytes:
        """`identifier` with another first byte, which names this worker."""
        if self.count == 1:
            return identifier
        first = identifier[0] - identifier[0] % self.count + self.index
        return bytes((first if first < 256 else first - self.count,)) + identifier[1:]

    def owner_of(self, identifier: bytes) -> int:
        """The worker that `identifier` names."""
        return identifier[0] % self.count

    @property
    def succeeds(self) -> bool:
        """Whether another process, which this one has succeeded, may still have connections."""
        return self._before is not None

    def send_back(self, topic: str, message: bytes) -> bool:
        """Send `message` to the process that this one has succeeded. Returns whether there is one."""
        if self._before is None:
            return False
        try:
            self._before.send(topic.encode() + b"\0" + message, socket.MSG_DONTWAIT)
        except ConnectionError:  # it has ended
            self._before.close()
            self._before = None
            return False
        except OSError:
            pass  # there is no room
        return True

    def inbox(self) -> socket.socket:
        """The end to send to this process, for the next one. A process that is alone has one from now on."""
        if not self._inboxes:
            self._inboxes = [pair()]
            self._listen()
        return self._inboxes[self.index][0]

    def send(self, worker: int, topic: str, message: bytes) -> None:
        """Send `message` to the receiver of `topic` in another worker. It may get lost."""
        with suppress(OSError):  # there is no room
            self._inboxes[worker][0].send(topic.encode() + b"\0" + message, socket.MSG_DONTWAIT)

    def receive(self, topic: str, receiver: Callable[[bytes], None]) -> None:
        """Call `receiver` with each message about `topic`, from now on."""
        self._receivers[topic] = receiver
        self._listen()

    def _listen(self) -> None:
        if self._reading is None and self._inboxes:
            self._reading = supervise("messages of other workers", self._read)

    def _read(self) -> None:
        inbox = gsocket.socket(fileno=os.dup(self._inboxes[self.index][1].fileno()))
        with inbox:
            while True:
                # no limit: as long as the process runs
                topic, _, message = inbox.recv(LARGEST).partition(b"\0")
                try:
                    if receiver := self._receivers.get(topic.decode()):
                        receiver(message)
                except Exception as error:
                    report(f"a message of another worker about {topic.decode()}", error)
                maybe_yield()  # another process can send faster than this one reads


_here = Siblings()


def here() -> Siblings:
    """This process among its siblings."""
    return _here


def become(siblings: Siblings) -> None:
    """Make this process one of several. Call it before anything listens."""
    global _here
    _here = siblings


def pair() -> tuple[socket.socket, socket.socket]:
    """The inbox of one worker: the end to send to it, and its own end."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
