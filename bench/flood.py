"""The cost of floods for a lane server and its users: from strangers, and from a peer with a connection.

    python bench/flood.py [--count 10000] [--secs 5] [--rounds 3] [--attacks NAME,NAME|all]

Everything runs on loopback, over QUIC. Exchanges (512 bytes up, 4 KB down, each on a new connection) are
timed before and during the flood. "CPU" is the server's CPU time during the flood, as a part of one core.
"MB more" is the growth of its resident memory. "answered" is the number of received bytes for each sent
one. "CPU after" is the server's CPU time in the second after the flood, without other load. Figures are
medians of the rounds.

Strangers send the first packets of thousands of clients that never continue. With --attacks, one client
completes its handshake and then sends the packets of an attack (bench/attacks.py). The attacks run one
after the other, each against its own server. In some of them the server ends the connection ("ended"). It
ignores the later packets.
"""

import argparse
import socket
import statistics
import threading
import time
from contextlib import ExitStack
from functools import partial

import psutil
from attacks import ATTACKS, SILENT, Peer, attack
from lane_quic.configuration import client_configuration
from lane_quic.engine.engine import Engine
from processes import start
from proxies import Place, pair
from target import Load

SOCKETS = 50


def first_packet():
    engine = Engine(client_configuration("server.test"))
    engine.connect("server", now=0.0)
    return engine.datagrams_to_send(now=0.0)[0][0]


class Strangers:
    """Sends `packets` over `secs` to the server at `port`, and counts the answers."""

    def __init__(self, port, packets, secs):
        self.port, self.packets, self.secs = port, packets, secs
        self.sent = self.received = 0
        self.sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(SOCKETS)]
        for sock in self.sockets:
            sock.setblocking(False)
        self.thread = threading.Thread(target=self.run)

    def run(self):
        begin = time.monotonic()
        for number, packet in enumerate(self.packets):
            time.sleep(max(0, begin + self.secs * number / len(self.packets) - time.monotonic()))
            sock = self.sockets[number % SOCKETS]
            self.sent += sock.sendto(packet, ("127.0.0.1", self.port))
            self.listen(sock)
        time.sleep(0.5)
        for sock in self.sockets:
            self.listen(sock)
            sock.close()

    def listen(self, sock):
        try:
            while True:
                self.received += len(sock.recv(65536))
        except BlockingIOError:
            pass


class Hostile:
    """Runs an attack with `count` packets over `secs`."""

    def __init__(self, port, name, count, secs):
        self.port, self.name, self.count, self.secs = port, name, count, secs
        self.sent = self.received = 0
        self.thread = threading.Thread(target=self.run)

    def run(self):
        peer = Peer(self.port)
        begin = time.monotonic()
        peer.silent, peer.sent, peer.received = self.name in SILENT, 0, 0
        for number in range(self.count):
            if (left := begin + self.secs * number / self.count - time.monotonic()) > 0.001:
                peer.listen()
                time.sleep(left)
            attack(self.name, peer, number)
        time.sleep(0.3)
        peer.silent = False
        peer.listen()
        self.sent, self.received, self.ended = peer.sent, peer.received, peer.closed
        peer.close()


def percentiles(times):
    times = sorted(times)
    return statistics.median(times), times[len(times) * 99 // 100]


def cpu(process):
    used = process.cpu_times()
    return used.user + used.system


def measure(make, secs):
    """Measure one flood. `make` creates it, for a port."""
    with ExitStack() as stack:
        found = pair(stack, "lane", Place())
        link = next(word for word in map(str, found.client.args) if word.startswith("lane://"))
        flood = make(int(link.partition("?")[0].rpartition(":")[2]))
        load = Load(stack, start, found.port).other()
        server = psutil.Process(found.server.pid)
        load.exchanges(1)
        idle = cpu(server)
        calm, before, alone = percentiles(load.exchanges(secs)), server.memory_info().rss, cpu(server) - idle
        flood.thread.start()
        idle = cpu(server)
        beside, after, taken = percentiles(load.exchanges(secs)), server.memory_info().rss, cpu(server) - idle
        flood.thread.join()
        busy = cpu(server)
        time.sleep(1)
        if "Traceback" in (said := found.server.said.read_text()):
            raise SystemExit(f"the server failed:\n{said[-2000:]}")
        result = {
            "p50 ms before": calm[0],
            "p99 ms before": calm[1],
            "p50 ms": beside[0],
            "p99 ms": beside[1],
            "CPU before": alone / secs,
            "CPU": taken / secs,
            "MB more": (after - before) / 1e6,
            "answered": flood.received / flood.sent,
            "CPU after": cpu(server) - busy,
        }
        if isinstance(flood, Hostile):
            result["ended"] = float(flood.ended)
        return result


def rounds_of(what, make, args):
    """Medians of the rounds of one flood."""
    rounds = []
    for number in range(1, args.rounds + 1):
        rounds.append(measure(make, args.secs))
        said = ", ".join(f"{name} {value:.2f}" for name, value in rounds[-1].items())
        print(f"{what} {number}/{args.rounds} {said}", flush=True)
    return {name: statistics.median(one[name] for one in rounds) for name in rounds[0]}


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--secs", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--attacks", help="names of attacks by a peer with a connection, or all")
    args = parser.parse_args()
    if args.attacks:
        names = ATTACKS if args.attacks == "all" else args.attacks.split(",")
        floods = {name: partial(Hostile, name=name, count=args.count, secs=args.secs) for name in names}
    else:
        print(f"making {args.count:,} packets", flush=True)
        packets = [first_packet() for _ in range(args.count)]
        floods = {"strangers": partial(Strangers, packets=packets, secs=args.secs)}
    results = {what: rounds_of(what, make, args) for what, make in floods.items()}
    print()
    for what, medians in results.items():
        print(f"{what:26}" + "  ".join(f"{name} {value:6.2f}" for name, value in medians.items()))


if __name__ == "__main__":
    main()
