"""Functions of the benchmarks to run proxies as real processes: start them, and wait for their output.

Output goes to a file. A pipe would block a process once nobody reads it.
"""

import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from lane.testing import server_tls

LANE = (sys.executable, "-m", "lane")
DEADLINE = 30
"""Seconds within which a process must be ready."""


class Failed(SystemExit):
    """A process was not ready or not done in time. A benchmark that can do without it continues."""


def start(stack, *command):
    """Start a process that ends with `stack`. Its `said` is the file with its output."""
    said = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "said"
    command = [str(word) for word in command]
    with said.open("wb") as file:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT)
    process.said = said
    stack.callback(process.wait)
    stack.callback(process.kill)
    return process


def line_with(process, word, within=DEADLINE):
    """Wait until a process prints a line with `word`, and return the line."""
    end = time.monotonic() + within
    while time.monotonic() < end:
        ended = process.poll() is not None
        for line in process.said.read_text().splitlines(keepends=True):
            if word in line and line.endswith("\n"):
                return line.strip()
        if ended:
            break
        time.sleep(0.02)
    text = process.said.read_text()[-2000:]
    raise Failed(f"{' '.join(process.args)}\ndid not say {word!r}, but:\n{text.strip()}")


def listens(process, port):
    """Wait until a TCP or UDP socket uses the port in the process's network namespace."""
    end = time.monotonic() + DEADLINE
    while time.monotonic() < end and process.poll() is None:
        for kind in ("tcp", "tcp6", "udp", "udp6"):
            for line in Path(f"/proc/{process.pid}/net/{kind}").read_text().splitlines()[1:]:
                _, local, _, state = line.split()[:4]
                if local.endswith(f":{port:04X}") and (state == "0A" or kind.startswith("udp")):
                    return
        time.sleep(0.02)
    said = process.said.read_text()[-2000:]
    raise Failed(f"{' '.join(process.args)}\ndoes not listen on port {port}:\n{said}")


def lane_pair(stack, folder, transport, server_at, allow, options=(), prefixes=((), ())):
    """Start a lane client and its server. Return both processes, and the client's port on 127.0.0.1.

    Both get `options`. `prefixes` are commands that run the client's and the server's command.
    """
    here, there = prefixes
    server, link = lane_server(stack, folder, server_at, allow, options, there)
    client, port = lane_client(stack, transport, link, options, here)
    return client, server, port


def lane_server(stack, folder, at, allow, options=(), prefix=()):
    """Start a lane server. Return it once it listens, and the link for its clients."""
    place = ("--state-dir", folder, "--listen", at, "--allow", allow)
    server = start(stack, *prefix, *LANE, "server", *place, *options)
    return server, link_of(server)


def link_of(server):
    """The link for a server's clients, from the command that the server prints."""
    words = shlex.split(line_with(server, "for clients: lane ").partition("lane ")[2])
    return subprocess.run([*LANE, *words], capture_output=True, text=True, check=True).stdout.strip()


def lane_client(stack, transport, link, options=(), prefix=()):
    """Start a lane client. Return it once it listens, and its port on 127.0.0.1."""
    to = ("--transport", transport, "--server", link, "--listen", "127.0.0.1:0")
    client = start(stack, *prefix, *LANE, *to, *options)
    return client, int(line_with(client, "listening on").split()[2].rpartition(":")[2])


def certificate(folder):
    """The paths of a new self-signed certificate and its key, for proxies that need files."""
    identity = server_tls()
    files = Path(folder) / "cert.pem", Path(folder) / "key.pem"
    for path, pem in zip(files, (identity.chain_pem, identity.key_pem), strict=True):
        path.write_bytes(pem)
    return files
