"""Standard error is a pipe of one page, and nobody reads it: whatever goes wrong, all goes on."""

import fcntl
import os
import socket
from contextlib import ExitStack

import pytest

from tests.support.processes import (
    TRANSPORTS,
    Lane,
    connected,
    echoes,
    link_of,
    start_client,
)

PAGE = 4096


class Piped(Lane):
    """Its standard error is a pipe that is full before it begins."""

    def __init__(self, *how, **more):
        self._read, self._write = os.pipe()
        fcntl.fcntl(self._write, fcntl.F_SETPIPE_SZ, PAGE)
        os.write(self._write, bytes(PAGE))
        super().__init__(*how, stderr=self._write, **more)

    def __exit__(self, *how):
        super().__exit__(*how)
        os.close(self._read)
        os.close(self._write)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_server_whose_log_nobody_reads_serves(tmp_path, origin, transport):
    arguments = ("--listen", "127.0.0.1:0", "--allow", "127.0.0.0/8", "--log-level", "debug")
    state = ("--state-dir", tmp_path / "state")
    limited = ("prlimit", "--nofile=60")
    with Piped(tmp_path / "server", "server", *state, *arguments, prefix=limited) as server:
        server.ready()
        with start_client(tmp_path / "client", transport, link_of(server)) as client, ExitStack() as stack:
            assert echoes(stack.enter_context(connected(client.address, origin.echo)))
            for _ in range(200):  # connections that shake no hands: without descriptors, too, which is logged
                sock = stack.enter_context(socket.socket())
                sock.settimeout(1)
                sock.connect_ex(server.address)
                sock.send(b"\x16\x03\x01\x00\x05hello")
            stack.close()
            for _ in range(5):
                with connected(client.address, origin.echo) as sock:
                    assert echoes(sock)
        assert server.process.poll() is None
