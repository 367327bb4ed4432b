"""lane with a library that says to be of another version than those that the tests have run with."""

import os

import pytest

from tests.support.origin import CONTENT, MB
from tests.support.processes import curl, start_client, start_server


@pytest.mark.parametrize(
    ("package", "transport", "off"),
    [
        ("aioquic", "quic", "--quic-fast-path off"),
        ("pyOpenSSL", "tls", "TLS may not work"),
        ("gevent", "quic", "it may not work"),
    ],
)
def test_it_says_so_once_and_works(tmp_path, origin, package, transport, off):
    info = tmp_path / "site" / f"{package.lower()}-99.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 99.1\n")
    env = {"PYTHONPATH": os.pathsep.join([str(info.parent), os.environ.get("PYTHONPATH", "")])}
    with (
        start_server(tmp_path / "server", env=env) as server,
        start_client(tmp_path / "client", transport, server.link, env=env) as client,
    ):
        url = f"http://127.0.0.1:{origin.web}/7/{MB}"
        assert curl(client.address, "socks5", url) == CONTENT[7 : 7 + MB]
        for side in (server, client):
            (said,) = [line for line in side.stderr.splitlines() if "lane was tested with" in line]
            assert f"{package} 99.1 is installed" in said
            assert off in said
