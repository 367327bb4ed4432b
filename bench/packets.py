"""An application that sends packets through SOCKS5 UDP ASSOCIATE, and the echo server for it.

    python bench/packets.py echo       [--host 127.0.0.1]: prints its port
    python bench/packets.py stream     --target H:P [--proxy H:P] [--mbit 30 | --pps 5000] [--size 1200]
    python bench/packets.py queries    --target H:P [--proxy H:P] [--count 500] [--every 0.02]: small ones,
                                       repeated after 1, 2, 4 s as a resolver does
    python bench/packets.py chat       --target H:P [--proxy H:P] [--count 50] [--every 0.05]: a small packet
                                       on each of --count associations every --every seconds
    python bench/packets.py associate  --target H:P --proxy H:P [--count 1000]: open --count associations with
                                       an exchange on each, then wait for SIGTERM
    python bench/packets.py flood      --target H:P --proxy H:P [--size 1200]: as fast as possible

Without --proxy, packets are sent directly to the target. The answers are compared with the sent packets.
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

from tcp import address, read_exactly

HEAD = struct.Struct("!Id")
BUFFER = 8 << 20


class Association:
    """A socket whose packets go through a proxy, or directly to the target without one."""

    def __init__(self, proxy, target):
        self.udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        self.udp.setblocking(False)
        self.came = select.poll()  # select.select takes no more than 1,024 descriptors
        self.came.register(self.udp, select.POLLIN)
        self.head, self.where = b"", target
        if proxy:
            self.tcp = socket.create_connection(proxy, 30)
            self.tcp.sendall(b"\x05\x01\x00\x05\x03\x00\x01" + bytes(6))
            reply = read_exactly(self.tcp, 12)
            if reply[3]:
                raise SystemExit(f"no association: reply code {reply[3]}")
            self.where = socket.inet_ntoa(reply[6:10]), int.from_bytes(reply[10:], "big")
            packed = socket.inet_aton(target[0]) + target[1].to_bytes(2, "big")
            self.head = b"\0\0\0\x01" + packed

    def send(self, payload):
        try:
            self.udp.sendto(self.head + payload, self.where)
        except BlockingIOError:
            return False
        return True

    def recv(self, timeout):
        """The next payload; None if none arrives in time."""
        if not self.came.poll(max(0, timeout) * 1000):
            return None
        try:
            return self.udp.recv(65535)[len(self.head) :]
        except BlockingIOError:
            return None


def echo(args):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER)
        sock.bind((args.host, 0))
        print("ready", sock.getsockname()[1], flush=True)
        while True:
            data, where = sock.recvfrom(65535)
            sock.sendto(data, where)


def stream(args):
    """Send packets at a steady rate. Print how many came back, and their round trips in ms."""
    link = Association(args.proxy, args.target)
    filler = bytes(args.size - HEAD.size)
    gap = 1 / args.pps if args.pps else args.size * 8 / (args.mbit * 1e6)
    times, sent, due = {}, 0, None
    while link.recv(1) is None:  # the association is open once it has answered
        link.send(HEAD.pack(0, time.monotonic()) + filler)
    begin = due = time.monotonic()
    while (now := time.monotonic()) < begin + args.secs + 1:
        if now >= due and now < begin + args.secs:
            sent += 1
            link.send(HEAD.pack(sent, now) + filler)
            due += gap
            if due > now:
                continue
        data = link.recv((due if now < begin + args.secs else begin + args.secs + 1) - now)
        if data is not None:
            number, then = HEAD.unpack_from(data)
            if data[HEAD.size :] != filler:
                print("CORRUPT DATA", file=sys.stderr)
                sys.exit(3)
            if number:
                times[number] = (time.monotonic() - then) * 1e3
    found = {"sent": sent, "came": len(times), "rtt": sorted(times.values())}
    return {**found, "mbit": len(times) * args.size * 8 / args.secs / 1e6}


def queries(args):
    """Queries of 40 bytes on one association, repeated without an answer: ms until each answer."""
    link = Association(args.proxy, args.target)
    times = []
    for number in range(args.count + 1):
        payload = HEAD.pack(number, 0).ljust(40, b"q")
        begin = time.monotonic()
        for patience in (1, 2, 4, 8):
            link.send(payload)
            end = time.monotonic() + patience
            while (data := link.recv(end - time.monotonic())) is not None and data != payload:
                pass  # a late answer to an earlier query
            if data is not None:
                break
        times.append((time.monotonic() - begin) * 1e3)
        time.sleep(args.every)
    return {"rtt": sorted(times[1:])}


def chat(args):
    """Small packets on many associations, each of which is in no hurry: ms until each answer."""
    links = [Association(args.proxy, args.target) for _ in range(args.count)]
    for link in links:
        link.send(HEAD.pack(0, 0))
        while link.recv(1) is None:  # the association is open once it has answered
            link.send(HEAD.pack(0, 0))
    came = select.poll()
    by_number = {link.udp.fileno(): link for link in links}
    for number in by_number:
        came.register(number, select.POLLIN)
    gap, begin, sent, times = args.every / args.count, time.monotonic(), 0, []
    while (now := time.monotonic()) < begin + args.secs + 1:
        due = begin + sent * gap
        if due < begin + args.secs and now >= due:
            links[sent % args.count].send(HEAD.pack(sent, now).ljust(64, b"c"))
            sent += 1
            continue
        for number, _ in came.poll(max(0, min(due, begin + args.secs + 1) - now) * 1000):
            if data := by_number[number].recv(0):
                times.append((time.monotonic() - HEAD.unpack_from(data)[1]) * 1e3)
        if due >= begin + args.secs and len(times) >= sent:
            break
    return {"sent": sent, "came": len(times), "rtt": sorted(times)}


def associate(args):
    links, answered = [], 0
    for _ in range(args.count):
        links.append(Association(args.proxy, args.target))
        for _ in range(5):
            links[-1].send(b"hello")
            if links[-1].recv(1) is not None:
                answered += 1
                break
    print("open", answered, flush=True)
    signal.sigwait([signal.SIGTERM])
    return {"open": answered}


def flood(args):
    """Send without a pause. Print the packets a second that were sent and that came back."""
    link = Association(args.proxy, args.target)
    came, over = [0], threading.Event()

    def receive():
        while not over.is_set():
            came[0] += link.recv(0.1) is not None

    receiver = threading.Thread(target=receive)
    receiver.start()
    payload, sent, end = bytes(args.size), 0, time.monotonic() + args.secs
    while time.monotonic() < end:
        sent += link.send(payload)
    over.set()
    receiver.join()
    return {"sent": sent / args.secs, "came": came[0] / args.secs}


def main():
    tests = {test.__name__: test for test in (echo, stream, queries, chat, associate, flood)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("test", choices=tests)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--target", type=address)
    parser.add_argument("--proxy", type=address)
    parser.add_argument("--mbit", type=float, default=30)
    parser.add_argument("--pps", type=float)
    parser.add_argument("--size", type=int, default=1200)
    parser.add_argument("--secs", type=float, default=10)
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--every", type=float, default=0.02)
    args = parser.parse_args()
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM]) if args.test == "associate" else None
    print(json.dumps(tests[args.test](args)))


if __name__ == "__main__":
    main()
