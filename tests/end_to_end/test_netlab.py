"""Through an emulated link between two network namespaces: not loopback, but 30 Mbit/s and 50 ms."""

import os
import subprocess
import sys
from contextlib import contextmanager
from itertools import count

import pytest
from labs import NETLAB, SERVER, lacking

from tests.support import origin as origin_module
from tests.support.origin import CONTENT, MB
from tests.support.processes import TRANSPORTS, curl, file_sha256, sha256, start_client, start_server

NUMBERS = count()
SIZE = 20 * MB


@contextmanager
def link(*options):
    """The prefixes that run a command at the client's and at the server's end of a link."""
    name = f"lane{os.getpid()}-{next(NUMBERS)}"
    subprocess.run([NETLAB, "up", "--name", name, *options], check=True, timeout=60, capture_output=True)
    try:
        yield [[NETLAB, "exec", name, side, "--"] for side in "cs"]
    finally:
        subprocess.run([NETLAB, "down", name], check=True, timeout=60, capture_output=True)


@pytest.fixture(scope="module")
def netlab():
    """Skips, or fails where links must be there, if there can be none."""
    if missing := lacking():
        reason = f"netlab needs {' and '.join(missing)}"
        if "netlab" in os.environ.get("LANE_TEST_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)


@pytest.fixture(scope="module")
def ends(netlab):
    with link("--rtt", "50ms", "--rate", "30mbit", "--loss", "0%") as ends:
        yield ends


@contextmanager
def origin_at(there):
    """The port of an origin at the server's end."""
    command = [*there, sys.executable, "-u", origin_module.__file__, SERVER]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as origin:
        try:
            yield int(origin.stdout.readline().split()[0])
        finally:
            origin.kill()


@pytest.fixture(scope="module")
def web(ends):
    with origin_at(ends[1]) as port:
        yield port


@pytest.mark.bulk
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_20_mb_both_ways(ends, web, tmp_path, transport):
    here, there = ends
    big = tmp_path / "big"
    big.write_bytes(CONTENT[:SIZE])
    with (
        start_server(tmp_path / "s", listen=f"{SERVER}:0", allow=f"{SERVER}/32", prefix=there) as server,
        start_client(tmp_path / "c", transport, server.link, prefix=here) as client,
    ):
        url = f"http://{SERVER}:{web}"
        curl(client.address, "socks5", f"{url}/0/{SIZE}", "-o", tmp_path / "out", prefix=here)
        assert file_sha256(tmp_path / "out") == sha256(CONTENT[:SIZE])
        assert curl(client.address, "http", url, "-T", big, prefix=here).decode() == sha256(CONTENT[:SIZE])
        assert client.stop() == 0
        assert server.stop() == 0
    assert "Traceback" not in server.stderr + client.stderr
