"""A user with a key who takes as much of a lane server as possible, as a process: see bench/strangers.py.

    python bench/greedy.py ATTACK TRANSPORT LINK COUNT SOURCE...

`COUNT` clients run at once, from the addresses `SOURCE` in turn. One that ends is started again. The
program runs until it is ended, and prints the number of starts once a second. `TARGET` is a port of the
server's machine.
"""

import os
import sys
from contextlib import suppress

import gevent
from crowd import STAY, Crowd, run

from lane.address import Address
from lane.carriers.request_stream import NOWHERE, read_reply
from lane.errors import LaneError
from lane.proto.frames import Data, pack
from lane.proto.hello import RESUMABLE, Command, Request, pack_hello, token
from lane.proto.udp import pack_packet

SPEED = 15e6 / 8 / 4
"""Bytes a second of a client that sends tiny frames: four of them give 15 Mbit/s."""
WINDOW = 16 << 20


class Greedy(Crowd):
    def __init__(self, transport, link, sources):
        super().__init__(transport, link, sources)
        self.key = link.key

    def ask(self, command, address=NOWHERE, flags=0):
        """Open a carrier, and a stream on which the server has answered."""
        carrier = self.transport.dial(self.at, self.tls)
        try:
            stream = carrier.open()
            more = (os.urandom(16), 0) if flags & RESUMABLE else ()
            request = Request(command, address, WINDOW, flags, *more)
            stream.sendall(pack_hello(token(self.key, carrier.binding)) + request.pack())
            read_reply(stream.recv)
        except BaseException:
            carrier.close()
            raise
        return carrier, stream

    def hold(self, carrier):
        """Wait until the server ends the carrier."""
        try:
            with gevent.Timeout(STAY, False):
                while not carrier.closed:
                    gevent.sleep(0.1)
        finally:
            carrier.close()

    def sessions(self):
        """An idle session with a target."""
        self.hold(self.ask(Command.CONNECT, self.target)[0])

    def probes(self):
        """An idle probe stream."""
        self.hold(self.ask(Command.PROBE)[0])

    def unread(self):
        """A download that is never acknowledged, in a window as large as the server gives."""
        carrier, stream = self.ask(Command.CONNECT, self.target, RESUMABLE)
        stream.sendall(pack(Data(0, b"D")))
        self.drain(stream)
        self.hold(carrier)

    def orphans(self):
        """An abandoned session, which the server keeps for its client."""
        carrier, stream = self.ask(Command.CONNECT, self.target, RESUMABLE)
        stream.sendall(pack(Data(0, b"D")))
        stream.recv()
        carrier.close()

    def tiny(self):
        """Frames of one byte that the server has already received."""
        carrier, stream = self.ask(Command.CONNECT, self.target)
        frames = pack(Data(0, b"x")) * 500
        try:
            while True:
                stream.sendall(frames)
                gevent.sleep(len(frames) / SPEED)
        finally:
            carrier.close()

    def names(self):
        """A target with a name that does not exist."""
        carrier, _ = self.ask(Command.CONNECT, Address(f"{os.urandom(8).hex()}.test", 80))
        carrier.close()

    def packets(self):
        """An association with many targets."""
        carrier, stream = self.ask(Command.UDP)
        offset = 0
        try:
            for number in range(4096):
                packet = pack_packet(Address(f"127.0.{number >> 8}.{number & 255}", 9), b"x")
                stream.sendall(pack(Data(offset, packet)))
                offset += len(packet)
            self.hold(carrier)
        finally:
            carrier.close()

    @property
    def target(self):
        return Address("127.0.0.1", int(os.environ["TARGET"]))

    def drain(self, stream):
        with suppress(LaneError), gevent.Timeout(STAY, False):
            while stream.recv():
                pass


if __name__ == "__main__":
    run(Greedy, *sys.argv[1:])
