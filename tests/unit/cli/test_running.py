"""What a command imports. Each module costs time at every start, so a command has those that it uses."""

import subprocess
import sys

import pytest

SCRIPT = """
import sys
from lane.__main__ import main
try:
    main()
except SystemExit:
    pass
print("imported:", *sys.modules)
"""
LOOP = {"gevent", "greenlet"}
PLUGINS = {"pluggy", "importlib.metadata", "email", "lane_quic", "lane_tls"}
NETWORK = {"dns", "h11", "lane.carriers", "lane.server", "lane.session", "lane.inbound", "lane.egress"}
ENGINES = {"aioquic", "OpenSSL", "service_identity", "lane_quic.engine", "lane_tls.stream"}
CRYPTOGRAPHY = {"cryptography", "ssl"}
OPTIONS = {"configargparse", "argparse", "lane.config"}
ALL = LOOP | PLUGINS | NETWORK | ENGINES | CRYPTOGRAPHY | OPTIONS


def imported(*argv):
    """The modules in a process that has run `lane` with `argv`."""
    done = subprocess.run([sys.executable, "-c", SCRIPT, *argv], capture_output=True, text=True, check=True)
    return {*done.stdout.rpartition("imported:")[2].split()}


@pytest.mark.parametrize(
    ("argv", "without"),
    [
        (["--version"], ALL - {"lane_quic"}),  # the empty parent of what may be compiled
        (["--help"], ALL),
        (["nonsense"], ALL),
        (["why", "--control", "/nowhere"], LOOP | PLUGINS | NETWORK | ENGINES | CRYPTOGRAPHY),
        (["status", "--state-dir", "STATE"], LOOP | PLUGINS | NETWORK | ENGINES | CRYPTOGRAPHY),
        (["open", "--control", "/nowhere"], LOOP | PLUGINS | NETWORK | ENGINES | CRYPTOGRAPHY),
        (["why", "--help"], LOOP | PLUGINS | NETWORK | ENGINES | CRYPTOGRAPHY),
        (["client", "--help"], NETWORK | ENGINES | CRYPTOGRAPHY),
        (["plugins"], NETWORK | ENGINES | CRYPTOGRAPHY),
        (["link", "--state-dir", "STATE", "--host", "server.test:443"], NETWORK | ENGINES),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",  # sets have any order
)
def test_a_command_imports_only_what_it_uses(tmp_path, argv, without):
    argv = [str(tmp_path) if word == "STATE" else word for word in argv]
    assert imported(*argv) & without == set()


def test_a_server_imports_nothing_of_a_client(tmp_path):
    """It ends at once, since it cannot listen there."""
    found = imported("server", "--state-dir", str(tmp_path), "--listen", "192.0.2.1:1")
    assert {"lane.server.server", "aioquic", "OpenSSL"} <= found
    assert "attr" not in found  # of service_identity, which aioquic imports and lane does not use
    assert found & {"h11", "lane.carriers", "lane.inbound", "lane.cli.workers", "lane.via"} == set()
