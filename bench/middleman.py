"""The network between a client and its server, for bench/soak.py, on loopback and without root.

It forwards TCP and UDP from one port to the server's port. On request it goes silent, as a failed network:
UDP packets are lost and TCP stalls, without a message to either side. It can also forget all connections,
as a restarted NAT: TCP connections are reset, and UDP packets come from another port from then on.
"""

import asyncio
import contextlib
import socket
import struct
import threading
from collections import OrderedDict

PIECE = 65536
BATCH = 64
"""Packets that are forwarded before anything else has its turn."""
MOST = 512
"""The most UDP ports that are remembered. The one that was silent for longest is forgotten first."""
_RESET = struct.pack("ii", 1, 0)


class Middleman:
    """Forwards the traffic of `port` (TCP and UDP) of 127.0.0.1. All methods are for other threads."""

    def __init__(self):
        self._tcp, self._udp = _two_of_a_port()
        self.port = self._tcp.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(_complain)
        self._server = self._listener = None
        self._passes = {"tcp": asyncio.Event(), "udp": asyncio.Event()}
        self._pairs = set()  # pairs of writers
        self._ways = OrderedDict()  # UDP sockets by the client's address
        for gate in self._passes.values():
            gate.set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="middleman", daemon=True)

    def start(self, server):
        """Forward to `server`, a port of 127.0.0.1."""
        self._server = "127.0.0.1", server
        self._thread.start()
        self._do(self._listen)

    def silence(self, *kinds):
        """Drop the traffic of `kinds`, and forward the rest."""
        self._do(self._silence, kinds)

    def forget(self):
        """Forget all connections."""
        self._do(self._forget)

    def close(self):
        self._do(self._end)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def _do(self, what, *arguments):
        async def run():
            result = what(*arguments)
            if result is not None:
                await result

        asyncio.run_coroutine_threadsafe(run(), self._loop).result(10)

    async def _listen(self):
        self._loop.add_reader(self._udp, self._to_server)
        self._listener = await asyncio.start_server(self._meet, sock=self._tcp)

    def _silence(self, kinds):
        for kind, gate in self._passes.items():
            gate.clear() if kind in kinds else gate.set()

    def _forget(self):
        for pair in list(self._pairs):
            for writer in pair:
                _reset(writer)
        while self._ways:
            self._leave(next(iter(self._ways)))

    async def _end(self):
        self._listener.close()
        self._loop.remove_reader(self._udp)
        self._udp.close()
        self._silence(())
        self._forget()
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            await asyncio.wait(others, timeout=0.05)
            self._forget()  # connections that were just starting
        await asyncio.sleep(0.05)  # aborted transports close in their next turns

    # TCP

    async def _meet(self, reader, writer):
        gate, pair = self._passes["tcp"], (writer,)
        self._pairs.add(pair)
        try:
            await gate.wait()
            there, away = await asyncio.open_connection(*self._server)
            self._pairs.discard(pair)
            pair = writer, away
            self._pairs.add(pair)
            async with asyncio.TaskGroup() as both:
                both.create_task(_pump(reader, away, gate))
                both.create_task(_pump(there, writer, gate))
        except* OSError:
            for each in pair:
                _reset(each)  # a broken connection is not a clean end
        finally:
            self._pairs.discard(pair)
            for each in pair:
                each.close()

    # UDP

    def _to_server(self):
        for _ in range(BATCH):
            try:
                data, client = self._udp.recvfrom(PIECE)
            except OSError:
                return
            if self._passes["udp"].is_set():
                with contextlib.suppress(OSError):
                    self._way(client).send(data)

    def _way(self, client):
        way = self._ways.get(client)
        if way is None:
            if len(self._ways) >= MOST:
                self._leave(next(iter(self._ways)))
            way = self._ways[client] = _udp()
            way.connect(self._server)
            self._loop.add_reader(way, self._to_client, way, client)
        self._ways.move_to_end(client)
        return way

    def _to_client(self, way, client):
        for _ in range(BATCH):
            try:
                data = way.recv(PIECE)
            except OSError:
                return
            if self._passes["udp"].is_set():
                with contextlib.suppress(OSError):
                    self._udp.sendto(data, client)

    def _leave(self, client):
        way = self._ways.pop(client)
        self._loop.remove_reader(way)
        way.close()


def _complain(loop, context):
    """Print errors other than lost connections. These are passed on to the other end."""
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)


async def _pump(reader, writer, gate):
    while data := await reader.read(PIECE):
        await gate.wait()
        writer.write(data)
        await writer.drain()
    await gate.wait()
    with contextlib.suppress(OSError):  # it may be gone the other way round
        writer.write_eof()


def _reset(writer):
    with contextlib.suppress(OSError, AttributeError):
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


def _udp():
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    sock.setblocking(False)
    return sock


def _two_of_a_port():
    """A TCP and a UDP socket with the same port number."""
    for _ in range(100):
        tcp = socket.create_server(("127.0.0.1", 0), backlog=512)
        udp = _udp()
        try:
            udp.bind(tcp.getsockname())
        except OSError:
            tcp.close()
            udp.close()
        else:
            tcp.setblocking(False)
            return tcp, udp
    raise SystemExit("no port for TCP and UDP")
