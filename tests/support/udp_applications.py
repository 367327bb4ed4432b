"""What the end-to-end tests of UDP share: an application with an association, targets, and HTTP/3."""

import socket
import threading
import time

from aioquic.h3.connection import H3_ALPN, H3Connection
from aioquic.h3.events import DataReceived, HeadersReceived
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection

from lane.address import Address, unpack
from lane.proto.udp import pack_socks, parse_socks
from tests.support.processes import DEADLINE, read_exactly


class Associated:
    """An application with an association at the SOCKS5 proxy."""

    def __init__(self, proxy):
        self.tcp = socket.create_connection(proxy, DEADLINE)
        self.tcp.sendall(b"\x05\x01\x00\x05\x03\x00" + Address("0.0.0.0", 0).pack())
        assert read_exactly(self.tcp, 2) == b"\x05\x00"
        head = read_exactly(self.tcp, 4)
        self.code = head[1]
        self.port = unpack(head[3:] + read_exactly(self.tcp, {1: 6, 4: 18}[head[3]]))[0]
        self.udp = socket.socket(
            socket.AF_INET6 if ":" in self.port.host else socket.AF_INET, socket.SOCK_DGRAM
        )
        self.udp.settimeout(DEADLINE)
        self.udp.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.tcp.close()
        self.udp.close()

    def send(self, target, payload):
        self.udp.sendto(pack_socks(Address(*target), payload), self.port)

    def recv(self):
        """The next packet: source and payload."""
        address, payload = parse_socks(self.udp.recv(65535))
        return tuple(address), bytes(payload)

    def ask(self, target, payload):
        """Send until something comes back, since packets may be lost: what came."""
        self.udp.settimeout(0.5)
        end = time.monotonic() + DEADLINE
        while time.monotonic() < end:
            self.send(target, payload)
            try:
                return self.recv()
            except TimeoutError:
                continue
        raise AssertionError("no answer")


class UdpServer:
    """Answers each packet with what `answer` makes of it, from a thread.

    No server of lane listens at its `host`. Clients of one that is gone would send to its port, which may be
    this one's now.
    """

    def __init__(self, answer=lambda data: data, host="127.0.0.2"):
        self.sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.bind((host, 0))
        self.sock.settimeout(0.1)
        self.address = self.sock.getsockname()[:2]
        self.peers = set()
        self._answer = answer
        self._ending = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending = True
        self._thread.join()
        self.sock.close()

    def _serve(self):
        while not self._ending:
            try:
                data, where = self.sock.recvfrom(65535)
            except TimeoutError:
                continue
            self.peers.add(where)
            self.sock.sendto(self._answer(data), where)


def answer_dns(query):
    """192.0.2.7 to whatever is asked (RFC 1035 section 4)."""
    question = query[12 : query.index(b"\0", 12) + 5]
    head = query[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
    return head + question + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\xc0\0\2\7"


class Http3Server:
    """HTTP/3 (RFC 9114) for one connection after the other: GET gives `content`."""

    def __init__(self, content, certificate, key):
        self.configuration = QuicConfiguration(is_client=False, alpn_protocols=H3_ALPN)
        self.configuration.load_cert_chain(certificate, key)
        self.content = content
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.sock.settimeout(0.02)
        self.address = self.sock.getsockname()
        self._ending = False
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ending = True
        self._thread.join()
        self.sock.close()

    def _serve(self):
        from aioquic.buffer import Buffer
        from aioquic.quic.packet import pull_quic_header

        quic = http = peer = None
        while not self._ending:
            try:
                data, where = self.sock.recvfrom(65535)
            except TimeoutError:
                data = None
            if data and where != peer:
                header = pull_quic_header(Buffer(data=data), host_cid_length=8)
                quic = QuicConnection(
                    configuration=self.configuration,
                    original_destination_connection_id=header.destination_cid,
                )
                http, peer = H3Connection(quic), where
            if quic is None:
                continue
            for event in pump(quic, self.sock.sendto, data, peer, http):
                if isinstance(event, HeadersReceived):
                    http.send_headers(event.stream_id, [(b":status", b"200")])
                    http.send_data(event.stream_id, self.content, end_stream=True)
            for datagram, _ in quic.datagrams_to_send(time.monotonic()):
                self.sock.sendto(datagram, peer)


def pump(quic, send, data, peer, http):
    """Feed a connection, send what it has to say, and give the events of HTTP/3."""
    now = time.monotonic()
    if data:
        quic.receive_datagram(data, peer, now)
    if (due := quic.get_timer()) is not None and due <= now:
        quic.handle_timer(now)
    found = []
    while (event := quic.next_event()) is not None:
        found += http.handle_event(event)
    for datagram, where in quic.datagrams_to_send(now):
        send(datagram, where)
    return found


def http3_get(application, target, cafile):
    """GET / over HTTP/3 through an association: the body."""
    configuration = QuicConfiguration(is_client=True, alpn_protocols=H3_ALPN, server_name="localhost")
    configuration.load_verify_locations(cafile)
    quic = QuicConnection(configuration=configuration)
    http, body, done = H3Connection(quic), b"", False
    quic.connect(target, now=time.monotonic())
    stream = None
    application.udp.settimeout(0.02)
    end = time.monotonic() + DEADLINE
    data = None
    while not done:
        assert time.monotonic() < end, f"HTTP/3: {len(body)} bytes until the deadline"
        for event in pump(quic, lambda packet, _: application.send(target, packet), data, target, http):
            if isinstance(event, DataReceived):
                body += event.data
                done = event.stream_ended
        if stream is None and quic._handshake_complete:
            stream = quic.get_next_available_stream_id()
            head = [
                (b":method", b"GET"),
                (b":scheme", b"https"),
                (b":authority", b"localhost"),
                (b":path", b"/"),
            ]
            http.send_headers(stream, head, end_stream=True)
        try:
            _, data = application.recv()
        except TimeoutError:
            data = None
    return body
