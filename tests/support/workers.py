"""Servers of several processes, and clients that come from addresses of different workers."""

import json
import socket
import subprocess
import sys
from dataclasses import replace

import pytest

from lane.address import Address
from lane.link import Link
from lane.net.steering import worker_of
from tests.support.processes import DEADLINE, start_server

NEAR, FAR = "127.0.0.1", "::1"
"""Two addresses of clients, which two workers share."""
TRUTHFUL = ("--fast-open", "off")
"""Options of a client that says nothing before it knows it."""
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux steers connections to workers")


def status(server):
    """What `lane status --json` prints."""
    folder = server.arguments[server.arguments.index("--state-dir") + 1]
    command = [sys.executable, "-m", "lane", "status", "--state-dir", folder, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def workers(folder, *options, count=2, **how):
    """A server of several workers that is ready."""
    return start_server(folder, "--workers", str(count), *options, **how)


def everywhere(folder, *options, **how):
    """A server of two workers on all addresses, and links for clients that come from NEAR and from FAR."""
    if not socket.has_dualstack_ipv6() or worker_of(NEAR, 2) == worker_of(FAR, 2):
        pytest.skip("IPv6 is needed here")
    server = workers(folder, *options, listen=":0", allow="127.0.0.0/8", **how)
    link = Link.parse(server.link)
    port = link.address.port
    links = [str(replace(link, address=Address(host, port))) for host in (NEAR, FAR)]
    return server, links


def of(server, host):
    """The worker of clients that come from `host`."""
    return status(server)["workers"][worker_of(host, 2)]


def is_back(server, restarts):
    """Whether all workers run, after so many deaths."""
    found = status(server)
    return found["restarts"] == restarts and all(one["pid"] for one in found["workers"])


def children_of(server):
    """Its workers, by their parent: a server that stops answers no more."""
    pid = server.process.pid
    with open(f"/proc/{pid}/task/{pid}/children") as file:
        return [{"pid": int(child)} for child in file.read().split()]
