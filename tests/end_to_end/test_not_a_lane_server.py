"""The certificate is the pinned one and the answer is not lane's: refused (77), over each transport."""

import re
import secrets
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import contextmanager, suppress

import pytest

from lane.address import Address
from lane.certs import ServerIdentity
from lane.link import Link
from tests.support.processes import DEADLINE

HTTP_ERROR = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
ANSWERS = pytest.mark.parametrize("answer", [HTTP_ERROR, b"", b"\0\1x"], ids=["http", "nothing", "bytes"])
QUIC_SERVER = """
import asyncio, sys
from aioquic.asyncio import QuicConnectionProtocol, serve
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.events import StreamDataReceived

class Server(QuicConnectionProtocol):
    def quic_event_received(self, event):
        if isinstance(event, StreamDataReceived) and event.data:
            if sys.argv[2] == "close":
                self._quic.close(error_code=0x105, reason_phrase="H3_FRAME_UNEXPECTED")
            elif sys.argv[2] == "reset":
                self._quic.reset_stream(event.stream_id, 0x10E)
            else:
                self._quic.send_stream_data(event.stream_id, bytes.fromhex(sys.argv[2][1:]), True)
            self.transmit()

async def main():
    configuration = QuicConfiguration(is_client=False, alpn_protocols=["h3"])
    configuration.load_cert_chain(sys.argv[1])
    server = await serve("127.0.0.1", 0, configuration=configuration, create_protocol=Server)
    print(server._transport.get_extra_info("sockname")[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)

asyncio.run(main())
"""


def identity(folder):
    """A certificate, and the file with it and its key."""
    made = ServerIdentity.make()
    (folder / "both.pem").write_bytes(made.chain_pem + made.key_pem)
    return made, folder / "both.pem"


def refused(run_lane, transport, link):
    """Whether client and check both say so in one line."""
    options = ["--transport", transport, "--server", link]
    result = run_lane("client", "--listen", "127.0.0.1:0", *options)
    assert result.returncode == 77, result.stderr
    assert re.fullmatch("lane: .*lane.*\n", result.stderr)
    result = run_lane("check", *options)
    assert result.returncode == 77, result.stdout
    return re.fullmatch(f"{transport:8} refused: .*lane.*\n", result.stdout)


@contextmanager
def tls_server(folder, answer):
    """A link to a TLS server with the right certificate that sends `answer` to whatever comes, and closes."""
    made, file = identity(folder)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    context.set_alpn_protocols(["http/1.1"])

    def answer_one(sock):
        # A client that hangs up is what this is about.
        with suppress(OSError), context.wrap_socket(sock, server_side=True) as secured:
            secured.settimeout(DEADLINE)
            secured.recv(65536)
            secured.sendall(answer)
            secured.unwrap()  # with close_notify: a connection cut short would be a lost one

    def serve():
        while True:
            try:
                sock, _ = listener.accept()
            except OSError:
                return
            with sock:
                answer_one(sock)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield Link(secrets.token_bytes(32), Address(*listener.getsockname()), made.binding)
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@ANSWERS
def test_over_tls(run_lane, tmp_path, answer):
    with tls_server(tmp_path, answer) as link:
        assert refused(run_lane, "tls", link)


@contextmanager
def quic_server(folder, answer):
    """The same over QUIC, in a process of its own. `answer`: =HEX, reset, or close (of the connection)."""
    made, file = identity(folder)
    command = [sys.executable, "-c", QUIC_SERVER, file, answer]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = int(server.stdout.readline())
            yield Link(secrets.token_bytes(32), Address("127.0.0.1", port), made.binding)
        finally:
            server.kill()


@ANSWERS
def test_over_quic(run_lane, tmp_path, answer):
    with quic_server(tmp_path, f"={answer.hex()}") as link:
        assert refused(run_lane, "quic", link)


@pytest.mark.parametrize("answer", ["reset", "close"])
def test_over_quic_as_a_web_server_does(run_lane, tmp_path, answer):
    # HTTP/3 skips HELLO, a reserved frame (RFC 9114 section 7.2.8), and objects to what comes behind it.
    with quic_server(tmp_path, answer) as link:
        assert refused(run_lane, "quic", link)
