"""Applications with many long sessions, all of which must survive the network's failures.

    python bench/sessions.py [--proxy HOST:PORT] [--moving 100] [--idle 100] [--every 1] [--secs 40]

Each session is one connection to netlab's `measure.py server` (--target). It begins and ends with an
exchange: 512 bytes up, 4 KB down, compared with the pattern. The moving sessions exchange all the time. The
program prints `began` when all are open. At the end it prints, as JSON, the number of correct sessions and
the longest exchange.
"""

import argparse
import json
import sys
import threading
import time

from pattern import Corrupt, check, part, request
from tcp import address, connect, read_exactly

PATIENCE = 60
"""Seconds that an exchange may take. The length of an outage is what is measured."""


class Sessions:
    def __init__(self, args):
        self.args, self.alive, self.errors, self.longest = args, 0, [], []
        self.corrupt = None
        self.open = threading.Barrier(args.moving + args.idle + 1)
        self._lock = threading.Lock()

    def run(self, number):
        longest = 0
        try:
            with connect(self.args.target, self.args.proxy) as sock:
                sock.settimeout(PATIENCE)
                self.exchange(sock, number)
                self.open.wait(PATIENCE)
                end = time.monotonic() + self.args.secs
                while number < self.args.moving and (now := time.monotonic()) < end:
                    longest = max(longest, self.exchange(sock, number))
                    time.sleep(max(0, now + self.args.every - time.monotonic()))
                time.sleep(max(0, end - time.monotonic()))
                self.exchange(sock, number)
        except (OSError, threading.BrokenBarrierError) as caught:
            self.open.abort()  # harmless once all are open
            with self._lock:
                self.errors.append(str(caught) or type(caught).__name__)
        except Corrupt as caught:
            self.corrupt = caught
        else:
            with self._lock:
                self.alive += 1
                self.longest.append(round(longest, 3))

    def exchange(self, sock, number):
        """Do one exchange. Return the seconds that it took."""
        begin = time.monotonic()
        sock.sendall(request(b"R", number * 97) + part(8, 504))
        check(read_exactly(sock, 4096), number * 97)
        return time.monotonic() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--target", type=address, default="10.9.0.2:7000")
    parser.add_argument("--proxy", type=address)
    parser.add_argument("--moving", type=int, default=100)
    parser.add_argument("--idle", type=int, default=100)
    parser.add_argument("--every", type=float, default=1, help="seconds between exchanges")
    parser.add_argument("--secs", type=float, default=40, help="from when all are open")
    args = parser.parse_args()
    sessions = Sessions(args)
    count = args.moving + args.idle
    threads = [threading.Thread(target=sessions.run, args=(number,), daemon=True) for number in range(count)]
    for thread in threads:
        thread.start()
    try:
        sessions.open.wait(PATIENCE)
        print(f"began {time.time()}", flush=True)
    except threading.BrokenBarrierError:
        pass  # a session did not open: its error has the reason
    for thread in threads:
        thread.join(args.secs + 2 * PATIENCE)
    if sessions.corrupt:
        print(f"CORRUPT DATA: {sessions.corrupt}", file=sys.stderr)
        sys.exit(3)
    done = {"sessions": count, "alive": sessions.alive, "errors": sorted(set(sessions.errors))}
    print(json.dumps({**done, "longest": max(sessions.longest, default=None)}))


if __name__ == "__main__":
    main()
