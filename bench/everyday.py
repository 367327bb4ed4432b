"""Ordinary programs side by side, for bench/auto.py: what breaks for users when the network changes?

curl downloads over HTTP. ssh shows the output of a remote command. A small program exchanges messages on a
connection that stays open, as a WebSocket does. Without ssh and sshd that part is skipped.
`python bench/everyday.py PROXY HOST PORT` is ssh's ProxyCommand.
"""

import hashlib
import os
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from pathlib import Path

from labs import SERVER, finish
from processes import line_with, listens
from scenarios import BLOCKED, OPEN, Ends, application, follow
from tcp import address, connect

WEB, SSH = 8080, 2222
SPEED = 1_000_000
"""The rate of curl's download, bytes a second."""
GRACE = 2
"""Seconds that an application's outage may be longer than the network's."""


def real(lab, transport, lossy=8, dark=5, blocked=8, rest=5):
    """`lossy` seconds, in which auto moves to QUIC, then `dark` seconds of blackout, then UDP is blocked."""
    ends = Ends(lab, transport)
    light, block = lossy + dark, lossy + dark + rest
    secs = block + blocked + rest
    page = lab.folder() / "page"
    page.write_bytes(os.urandom(SPEED * secs))
    listens(lab.start("s", sys.executable, "-m", "http.server", WEB, "-b", SERVER, "-d", page.parent), WEB)
    through = f"127.0.0.1:{ends.port}"
    echo = lab.start("c", *application(ends, 1, 0, 0.2, secs))
    began = float(line_with(echo, "began").split()[1])
    patience = ("--speed-limit", "1", "--speed-time", str(dark + GRACE))
    got = lab.folder() / "page"
    fetch = ("--socks5-hostname", through, "--limit-rate", SPEED, "-o", got, f"http://{SERVER}:{WEB}/page")
    curl = lab.start("c", "curl", "-sS", *patience, *fetch)
    shell = ssh(lab, through, secs)
    steps = [(lossy, BLOCKED), (light, OPEN), (block, ("--loss", "0%", "--block-udp", "1")), (secs, OPEN)]
    follow(ends, began, steps)
    faults = []
    if status := curl.wait(secs + 60):
        faults.append(f"curl ended with {status}: {curl.said.read_text().strip()[-100:]}")
    elif hashlib.sha256(got.read_bytes()).digest() != hashlib.sha256(page.read_bytes()).digest():
        faults.append("curl got other data")
    done = finish(echo, 120)
    faults += [f"messages: {error}" for error in done["errors"]]
    figures = {"longest": done["longest"]}
    if shell:
        text, seconds = shell()
        faults += [f"ssh: {text}"] if text else []
        figures["ssh gap"] = seconds
    figures["broke"] = len(faults)
    note = f"curl, messages{', ssh' if shell else '; no ssh: sshd is not installed'}"
    return {"figures": figures, "error": "; ".join(faults) or None, "note": note}


def ssh(lab, through, secs):
    """Start a session. The returned function waits for its end and returns its error and longest gap."""
    sshd = shutil.which("sshd", path=f"{os.environ['PATH']}:/usr/sbin")
    if not sshd or not shutil.which("ssh"):
        return None
    folder = lab.folder()
    Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it, and only its service makes it
    for name in ("host", "user"):
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
        subprocess.run(command, check=True, timeout=30)
    keys = ("-h", folder / "host", "-o", f"AuthorizedKeysFile={folder / 'user.pub'}", "-o", "StrictModes=no")
    more = ("-o", f"ListenAddress={SERVER}:{SSH}", "-o", "PidFile=none", "-o", "UsePAM=no")
    listens(lab.start("s", sshd, "-D", "-f", "/dev/null", *keys, *more), SSH)
    lines = secs * 5
    command = f"i=0; while [ $i -lt {lines} ]; do echo $i; i=$((i+1)); sleep 0.2; done"
    way = shlex.join([sys.executable, __file__, through, SERVER, str(SSH)])
    known = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
    login = ("-F", "none", "-i", folder / "user", *known, "-o", f"ProxyCommand={way}", f"root@{SERVER}")
    client = subprocess.Popen(
        [*map(str, (*lab.prefix("c"), "ssh", *login, command))],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    lab.stack.callback(client.wait)
    lab.stack.callback(client.kill)
    arrivals, said = [], []

    def read():
        for line in client.stdout:
            arrivals.append(time.monotonic())
            said.append(line.strip())

    reading = threading.Thread(target=read, daemon=True)
    reading.start()

    def end():
        status = client.wait(secs * 2 + 60)
        reading.join()
        gap = max((b - a for a, b in pairwise(arrivals)), default=None)
        good = status == 0 and said == [str(number) for number in range(lines)]
        return "" if good else f"status {status}: {' '.join(said[-1:])}", gap

    return end


def pipe(proxy, host, port):
    """Between standard input and output and a connection through the proxy."""
    sock = connect((host, int(port)), address(proxy))
    sock.settimeout(None)

    def up():
        while data := os.read(0, 65536):
            sock.sendall(data)
        sock.shutdown(socket.SHUT_WR)

    threading.Thread(target=up, daemon=True).start()
    while data := sock.recv(65536):
        os.write(1, data)


if __name__ == "__main__":
    pipe(*sys.argv[1:])
