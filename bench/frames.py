"""The cost of a session's frames: TLS on loopback, alternately bare and with sessions.

    python bench/frames.py [--secs 3] [--rounds 5]

Two processes transfer data in one direction. Figures are medians of throughput, and of CPU seconds a GB on
each side.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time

import gevent
from lane_tls.plugin import TLSTransport

from lane.budget import Budget
from lane.proto.frames import MAX_PAYLOAD
from lane.session.owner import Owner
from lane.session.receive_window import initial_window
from lane.session.session import Session
from lane.stream import Address
from lane.testing import server_tls

BUFFER = 16 << 20


def wrap(stream, carrier, frames):
    if not frames:
        return stream
    session = Session(initial_window(BUFFER), BUFFER, Budget(512 << 20), Owner())
    gevent.spawn(session.carry, stream, carrier.stats)
    return session


def serve(frames):
    """Send until the peer leaves. Print the port at the start and the CPU seconds at the end."""
    tls = server_tls()
    listener = TLSTransport().listen(Address("127.0.0.1", 0), tls)
    print(json.dumps([listener.address.port, tls.binding.hex()]), flush=True)
    carrier = listener.accept()
    stream = carrier.accept()
    stream.recv(1)
    pipe = wrap(stream, carrier, frames)
    payload = bytes(MAX_PAYLOAD)
    start = time.process_time()
    try:
        while True:
            pipe.sendall(payload)
    except Exception:
        print(time.process_time() - start, flush=True)


class Pin:
    server_name = None

    def __init__(self, binding):
        self.binding = binding

    def verify(self, chain):
        return self.binding


def measure(frames, secs):
    """Mbit/s, and CPU seconds a GB of the receiver and of the sender."""
    server = subprocess.Popen(
        [sys.executable, __file__, "--serve", *(["--frames"] if frames else [])], stdout=subprocess.PIPE
    )
    port, binding = json.loads(server.stdout.readline())
    carrier = TLSTransport().dial(Address("127.0.0.1", port), Pin(bytes.fromhex(binding)))
    stream = carrier.open()
    stream.sendall(b"!")
    pipe = wrap(stream, carrier, frames)
    start, cpu, size = time.monotonic(), time.process_time(), 0
    while (elapsed := time.monotonic() - start) < secs:
        size += len(pipe.recv())
    cpu = time.process_time() - cpu
    pipe.reset()
    gevent.sleep(0.05)
    sender = float(server.stdout.readline())
    server.wait()
    return size * 8 / elapsed / 1e6, cpu / size * 1e9, sender / size * 1e9


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--secs", type=float, default=3)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--frames", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.serve:
        serve(args.frames)
        return
    results = {False: [], True: []}
    for _ in range(args.rounds):
        for frames, rows in results.items():
            rows.append(measure(frames, args.secs))
    bare, framed = (
        [statistics.median(column) for column in zip(*rows, strict=True)] for rows in results.values()
    )
    print(f"{'':9}{'Mbit/s':>8}  CPU s/GB receiver, sender")
    for name, row in (("bare", bare), ("frames", framed)):
        print(f"{name:9}{row[0]:8.0f}  {row[1]:.3f}, {row[2]:.3f}")
    print(f"frames / bare: {framed[0] / bare[0]:.3f} of the throughput")


if __name__ == "__main__":
    main()
