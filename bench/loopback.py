"""One bulk download through each proxy on loopback, turn and turn about: throughput, CPU and memory.

    python bench/loopback.py [--secs 5] [--rounds 5] [--only tls,quic,pproxy]

Contenders: lane over TLS, lane over QUIC, and pproxy over TLS where it is installed (`pip install
pproxy`). Each run starts fresh processes. CPU seconds a GB are those of the client and of the server
process; the load runs in a process of its own. Medians; compare ratios, not figures of two machines.
"""

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack

import psutil
from processes import certificate, lane_pair, line_with, start

SOURCE = """
import socket, threading
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
def feed(sock):
    data = bytes(262144)
    try:
        while True:
            sock.sendall(data)
    except OSError:
        sock.close()
while True:
    threading.Thread(target=feed, args=(listener.accept()[0],), daemon=True).start()
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def pproxy(stack, folder):
    cert, key = certificate(folder)
    there, here = free_port(), free_port()
    command = (sys.executable, "-m", "pproxy")
    server = start(stack, *command, "-l", f"socks5+ssl://127.0.0.1:{there}", "--ssl", f"{cert},{key}")
    client = start(
        stack, *command, "-l", f"socks5://127.0.0.1:{here}", "-r", f"socks5+ssl://127.0.0.1:{there}"
    )
    for port in (there, here):
        wait_for(port)
    return client, server, here


def wait_for(port):
    for _ in range(200):
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise SystemExit(f"nothing listens on port {port}")


def download(port, target, secs):
    """Bytes and seconds of a download from `target` through the SOCKS5 proxy at `port`."""
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.sendall(b"\5\1\0" + b"\5\1\0\1" + socket.inet_aton("127.0.0.1") + target.to_bytes(2, "big"))
        head = b""
        while len(head) < 12:
            head += sock.recv(12 - len(head))
        assert head[3] == 0, f"the proxy refused: {head[3]}"
        buffer = bytearray(1 << 20)
        begin, size = time.monotonic(), 0
        while (elapsed := time.monotonic() - begin) < secs:
            size += sock.recv_into(buffer)
        return size, elapsed


def cpu(process):
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def run(contender, target, secs):
    """Mbit/s, CPU s/GB of client and server, resident MB of client and server."""
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        client, server, port = (
            pproxy(stack, folder)
            if contender == "pproxy"
            else lane_pair(stack, folder, contender, "127.0.0.1:0", "127.0.0.0/8")
        )
        download(port, target, 1)  # warm
        before = [cpu(process) for process in (client, server)]
        size, elapsed = download(port, target, secs)
        used = [(cpu(process) - b) / size * 1e9 for process, b in zip((client, server), before, strict=True)]
        resident = [psutil.Process(process.pid).memory_info().rss / 1e6 for process in (client, server)]
        return [size * 8 / elapsed / 1e6, *used, *resident]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--secs", type=float, default=5)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="tls,quic,pproxy")
    args = parser.parse_args()
    contenders = args.only.split(",")
    found = subprocess.run([sys.executable, "-m", "pproxy", "--version"], capture_output=True, check=False)
    if "pproxy" in contenders and found.returncode:
        print("pproxy is not installed (pip install pproxy): left out")
        contenders.remove("pproxy")
    rows = {contender: [] for contender in contenders}
    with ExitStack() as stack:
        target = int(line_with(start(stack, sys.executable, "-c", SOURCE), ""))
        for number in range(args.rounds):
            for contender, results in rows.items():
                results.append(run(contender, target, args.secs))
                rate = f"{results[-1][0]:.0f} Mbit/s"
                print(f"round {number + 1} of {args.rounds}: {contender} {rate}", flush=True)
    print(f"\n{'':8}{'Mbit/s':>8}{'client':>8}{'server':>8} CPU s/GB{'client':>8}{'server':>8} MB resident")
    for contender, results in rows.items():
        rate, c, s, c_mb, s_mb = (statistics.median(column) for column in zip(*results, strict=True))
        print(f"{contender:8}{rate:8.0f}{c:8.2f}{s:8.2f}{'':9}{c_mb:8.0f}{s_mb:8.0f}")


if __name__ == "__main__":
    main()
