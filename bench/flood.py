"""First packets of thousands of clients that never go on: what they cost a lane server, and those who use it.

    python bench/flood.py [--count 10000] [--secs 5] [--rounds 3]

All on loopback, over QUIC. Exchanges (512 bytes up, 4 KB down, each on a new connection) are timed before the
flood and during it. "MB more" is resident memory of the server at its end, "answered" the bytes that the
strangers got for each one they sent. Medians of the rounds.
"""

import argparse
import socket
import statistics
import threading
import time
from contextlib import ExitStack

import psutil
from lane_quic.configuration import client_configuration
from lane_quic.engine import Engine
from processes import start
from proxies import Place, pair
from target import Load

SOCKETS = 50


def first_packet():
    engine = Engine(client_configuration("server.test"))
    engine.connect("server", now=0.0)
    return engine.datagrams_to_send(now=0.0)[0][0]


class Strangers:
    """Send `packets` over `secs` to the server at `port`, and count what comes back."""

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


def percentiles(times):
    times = sorted(times)
    return statistics.median(times), times[len(times) * 99 // 100]


def measure(packets, secs):
    with ExitStack() as stack:
        found = pair(stack, "lane", Place())
        link = next(word for word in map(str, found.client.args) if word.startswith("lane://"))
        strangers = Strangers(int(link.partition("?")[0].rpartition(":")[2]), packets, secs)
        load = Load(stack, start, found.port).other()
        server = psutil.Process(found.server.pid)
        load.exchanges(1)
        calm, before = percentiles(load.exchanges(secs)), server.memory_info().rss
        strangers.thread.start()
        beside, after = percentiles(load.exchanges(secs)), server.memory_info().rss
        strangers.thread.join()
        return {
            "p50 ms before": calm[0],
            "p99 ms before": calm[1],
            "p50 ms": beside[0],
            "p99 ms": beside[1],
            "MB more": (after - before) / 1e6,
            "answered": strangers.received / strangers.sent,
        }


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--secs", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    print(f"making {args.count:,} packets", flush=True)
    packets = [first_packet() for _ in range(args.count)]
    rounds = []
    for number in range(1, args.rounds + 1):
        rounds.append(measure(packets, args.secs))
        said = ", ".join(f"{name} {value:.2f}" for name, value in rounds[-1].items())
        print(f"{number}/{args.rounds} {said}", flush=True)
    print()
    for name in rounds[0]:
        print(f"{name:16}{statistics.median(one[name] for one in rounds):8.2f}")


if __name__ == "__main__":
    main()
