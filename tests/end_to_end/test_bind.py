"""SOCKS BIND through real clients and servers, over each transport: a server port for one connection."""

import ftplib
import io
import socket
import socketserver
import struct
import threading

import pytest

from lane.address import Address, unpack
from lane.testing.harness import until
from tests.support.origin import CONTENT, MB, read_to_end
from tests.support.processes import DEADLINE, TRANSPORTS, breaks, connected, read_exactly, running_pair

pytestmark = pytest.mark.bulk


@pytest.fixture(scope="module", params=TRANSPORTS)
def pair(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp(request.param)
    with running_pair(folder, request.param, ["--allow-bind"]) as (server, client):
        yield server, client
        assert client.stop() == 0
        assert server.stop() == 0
    for lane in (server, client):
        assert "Traceback" not in lane.stderr


def answer5(sock):
    head = read_exactly(sock, 4)
    data = head[3:] + read_exactly(sock, {1: 6, 4: 18}[head[3]])
    assert head[0] == 5, head
    address, _ = unpack(data)
    return head[1], address


def answer4(sock):
    zero, code, port, host = struct.unpack("!BBH4s", read_exactly(sock, 8))
    assert zero == 0
    return code - 90, Address(socket.inet_ntoa(host), port)


def bind5(proxy, peer="127.0.0.1"):
    """(socket, reply code, where the port is)."""
    sock = socket.create_connection(proxy, DEADLINE)
    sock.sendall(b"\x05\x01\x00\x05\x02\x00" + Address(peer, 21).pack())
    assert read_exactly(sock, 2) == b"\x05\x00"
    return sock, *answer5(sock)


def bind4(proxy, peer="127.0.0.1"):
    sock = socket.create_connection(proxy, DEADLINE)
    sock.sendall(b"\x04\x02\x00\x15" + socket.inet_aton(peer) + b"\0")
    return sock, *answer4(sock)


def refuses(address):
    """Whether nobody listens there."""
    try:
        socket.create_connection(address, DEADLINE).close()
    except ConnectionRefusedError:
        return True
    return False


def listens(port):
    """Whether a socket of this machine listens on the port; it is not connected to."""
    with open("/proc/net/tcp", encoding="ascii") as table:
        rows = [line.split() for line in table][1:]
    return any(row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port for row in rows)


@pytest.mark.parametrize("bind", [bind5, bind4], ids=["socks5", "socks4"])
def test_a_server_opens_no_port_without_being_asked(tmp_path, bind):
    with running_pair(tmp_path, "tls", ["--allow-reverse", "*"]) as (_, client):
        sock, code, _ = bind(client.address)
        with sock:
            assert code == (2 if bind is bind5 else 1)


@pytest.mark.parametrize(("bind", "answer"), [(bind5, answer5), (bind4, answer4)], ids=["socks5", "socks4"])
def test_bytes_both_ways_and_half_close(pair, bind, answer):
    sock, code, where = bind(pair[1].address)
    assert (code, where.host) == (0, "127.0.0.1")
    with sock, socket.create_connection(where, DEADLINE) as peer:
        assert answer(sock) == (0, Address(*peer.getsockname()))
        assert refuses(where)  # one connection, and no more
        sender = threading.Thread(target=lambda: (sock.sendall(CONTENT[:MB]), sock.shutdown(socket.SHUT_WR)))
        sender.start()
        assert read_to_end(peer) == CONTENT[:MB]
        sender.join()
        peer.sendall(CONTENT[MB : 3 * MB])
        peer.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == CONTENT[MB : 3 * MB]


def test_what_is_said_before_the_peer_came_arrives(pair):
    sock, _, where = bind5(pair[1].address)
    with sock:
        sock.sendall(b"too early")
        with socket.create_connection(where, DEADLINE) as peer:
            assert answer5(sock)[0] == 0
            sock.sendall(b", and in time")
            sock.shutdown(socket.SHUT_WR)
            assert read_to_end(peer) == b"too early, and in time"


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_anyone_whom_the_policy_lets_through(pair, host):
    sock, code, where = bind5(pair[1].address, host)
    if code and host == "::":
        pytest.skip("this machine has no way out over IPv6")
    with sock, socket.create_connection(("127.0.0.1", where.port), DEADLINE) as peer:
        assert code == 0
        assert answer5(sock) == (0, Address(*peer.getsockname()))


def test_others_than_the_expected_peer_are_sent_away(pair):
    sock, _, where = bind5(pair[1].address)
    with sock:
        for _ in range(3):
            with socket.create_connection(where, DEADLINE, ("127.0.0.2", 0)) as stranger:
                breaks(stranger)
        with socket.create_connection(where, DEADLINE) as peer:
            assert answer5(sock) == (0, Address(*peer.getsockname()))
            peer.sendall(b"hello")
            assert read_exactly(sock, 5) == b"hello"


def test_the_policy_judges_the_expected_peer(pair):
    sock, code, _ = bind5(pair[1].address, "10.1.2.3")
    sock.close()
    assert code == 2


def test_an_application_that_leaves_gives_the_port_back(pair):
    sock, _, where = bind5(pair[1].address)
    assert listens(where.port)
    sock.close()
    until(lambda: not listens(where.port), lambda: "the port stays open")


class Files(socketserver.StreamRequestHandler):
    """As much of an FTP server (RFC 959) as active transfers need: it connects to where PORT says."""

    def handle(self):
        kept = b""
        self.wfile.write(b"220 ready\r\n")
        for line in self.rfile:
            command, _, text = line.decode().strip().partition(" ")
            if command == "PORT":
                *host, high, low = text.split(",")
                where = ".".join(host), 256 * int(high) + int(low)
                self.wfile.write(b"200 there\r\n")
            elif command in ("STOR", "RETR"):
                self.wfile.write(b"150 now\r\n")
                with socket.create_connection(where, DEADLINE) as data:
                    if command == "STOR":
                        kept = read_to_end(data)
                    else:
                        data.sendall(kept)
                self.wfile.write(b"226 done\r\n")
            else:
                self.wfile.write(b"221 bye\r\n" if command == "QUIT" else b"200 well\r\n")


class ActiveFTP(ftplib.FTP):
    """The standard library's client, whose connections go through a proxy, both ways."""

    def __init__(self, proxy, bind, answer):
        super().__init__()
        self.proxy, self.bind, self.answer = proxy, bind, answer
        self.set_pasv(False)

    def connect_through(self, port):
        self.sock = connected(self.proxy, port)
        self.af = self.sock.family
        self.file = self.sock.makefile("r", encoding="latin-1")
        return self.getresp()

    def ntransfercmd(self, cmd, rest=None):
        sock, code, where = self.bind(self.proxy)
        assert code == 0
        self.sendport(*where)
        assert self.sendcmd(cmd).startswith("150")
        assert self.answer(sock)[0] == 0
        return sock, None


@pytest.mark.parametrize(("bind", "answer"), [(bind5, answer5), (bind4, answer4)], ids=["socks5", "socks4"])
def test_active_ftp(pair, bind, answer):
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Files) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            with ActiveFTP(pair[1].address, bind, answer) as ftp:
                assert ftp.connect_through(server.server_address[1]) == "220 ready"
                ftp.storbinary("STOR file", io.BytesIO(CONTENT[:MB]))
                got = []
                ftp.retrbinary("RETR file", got.append)
                assert b"".join(got) == CONTENT[:MB]
        finally:
            server.shutdown()
            thread.join()
