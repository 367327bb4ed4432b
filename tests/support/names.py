"""A name server on loopback, over UDP and TCP, that may be silent, slow, wrong or a liar."""

import json
import struct
import sys
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset
import gevent.event
from gevent import socket

from lane.errors import Status, TargetError
from lane.net.names import literal

SOA = "ns.test. admin.test. 1 2 3 4 60"


class NameServer:
    """Answers from `zones`: names to what there is (`A 192.0.2.1`, `CNAME x.test`), at `host` and `port`.

    `slow` has events that answers for a name wait for, `codes` rcodes instead of an answer. Names in
    `silent` are not answered at all; what `lie(query, response)` returns, if it is set, is sent instead.
    """

    def __init__(self, host="127.0.0.1", port=0):
        self.zones, self.slow, self.codes, self.silent = {}, {}, {}, set()
        self.asked = []  # name, kind and whether over TCP
        self.asker = None  # where the last packet came from
        self.heard = lambda name: None
        self.ttl = 300
        self.lie = None
        self.udp, self.tcp = bind_both(host, port)
        self.port = self.udp.getsockname()[1]
        self.jobs = [gevent.spawn(self._serve_udp), gevent.spawn(self._serve_tcp)]

    def close(self):
        gevent.killall(self.jobs)
        self.udp.close()
        self.tcp.close()

    def names(self):
        """What was asked for."""
        return [name for name, _, _ in self.asked]

    def _serve_udp(self):
        while True:
            wire, self.asker = self.udp.recvfrom(4096)
            self.jobs.append(gevent.spawn(self._answer_udp, wire, self.asker))

    def _answer_udp(self, wire, where):
        for packet in self._answers(wire, False):
            self.udp.sendto(packet, where)

    def _serve_tcp(self):
        while True:
            sock, _ = self.tcp.accept()
            self.jobs.append(gevent.spawn(self._answer_tcp, sock))

    def _answer_tcp(self, sock):
        with sock:
            (size,) = struct.unpack("!H", sock.recv(2))
            for packet in self._answers(sock.recv(size), True):
                sock.sendall(struct.pack("!H", len(packet)) + packet)

    def _answers(self, wire, over_tcp):
        query = dns.message.from_wire(wire)
        name = query.question[0].name.to_text().lower().removesuffix(".")
        self.asked.append((name, dns.rdatatype.to_text(query.question[0].rdtype), over_tcp))
        self.heard(name)
        for slow in (self.slow.get(name), self.slow.get(self.asked[-1][:2])):
            if slow:
                slow.wait()
        if name in self.silent or self.asked[-1][:2] in self.silent:
            return []
        response = self._response(query, name)
        if self.lie:
            return self.lie(query, response)
        return [pack(response, 65535 if over_tcp else max(query.payload, 512))]

    def _response(self, query, name):
        response = dns.message.make_response(query)
        kind = query.question[0].rdtype
        if name in self.codes:
            response.set_rcode(dns.rcode.from_text(self.codes[name]))
            return response
        while name in self.zones:
            found = [record.split(" ", 1) for record in self.zones[name]]
            alias = next((data for what, data in found if what == "CNAME"), None)
            mine = [data for what, data in found if dns.rdatatype.from_text(what) == kind]
            if mine:
                response.answer.append(records(name, self.ttl, kind, *mine))
            if alias is None:
                break
            response.answer.append(records(name, self.ttl, "CNAME", f"{alias}."))
            name = alias
        else:
            response.set_rcode(dns.rcode.NXDOMAIN)
        if not response.answer or response.answer[-1].rdtype != kind:
            response.authority.append(records("test", self.ttl, "SOA", SOA))
        return response


def bind_both(host, port):
    """Sockets of UDP and TCP on one port; for port 0, one that both have."""
    while True:
        udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        tcp = socket.socket()
        try:
            udp.bind((host, port))
            tcp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            tcp.bind(udp.getsockname())
            tcp.listen()
        except OSError:
            udp.close()
            tcp.close()
            if port:
                raise
        else:
            return udp, tcp


def records(name, ttl, kind, *data):
    return dns.rrset.from_text(f"{name}.", ttl, "IN", kind, *data)


def pack(response, most=65535):
    """The bytes of a response; of one that is too long, a packet that says so."""
    wire = response.to_wire(max_size=65535)
    if len(wire) > most:
        short = dns.message.Message(response.id)
        short.flags = response.flags | dns.flags.TC
        short.question = response.question
        wire = short.to_wire()
    return wire


def write_etc(folder, conf="", *, servers=("127.0.0.1",), hosts="", sources=None):
    """The files of a system in `folder`."""
    lines = [*(f"nameserver {server}" for server in servers), conf]
    (folder / "resolv.conf").write_text("\n".join(lines) + "\n")
    (folder / "hosts").write_text(hosts)
    if sources is not None:
        (folder / "nsswitch.conf").write_text(f"hosts: {sources}\n")
    return folder


class Names:
    """A resolver that knows what it was told, `found` of all other names, and tells once `go` is set."""

    def __init__(self, *found, **known):
        self.found, self.known = found, known
        self.asked = []
        self.waiting = 0
        self.go = gevent.event.Event()
        self.go.set()

    def resolve(self, host, user=""):
        if address := literal(host):
            return [address]
        self.asked.append(host)
        self.waiting += 1
        try:
            self.go.wait()
        finally:
            self.waiting -= 1
        found = self.known.get(host, self.found)
        if not found:
            raise TargetError(Status.HOST_UNREACHABLE, "name not known")
        return [ip_address(one) for one in found]


def main():
    """`python -m tests.support.names HOST PORT ZONES`: zones in JSON, names in `dead` are not answered.

    It prints `ready`, and then what it is asked for.
    """
    host, port, zones = sys.argv[1:]
    server = NameServer(host, int(port))
    server.zones = json.loads(zones)
    server.silent = Below("dead")
    server.heard = lambda name: print(name, flush=True)
    print("ready", flush=True)
    gevent.joinall(server.jobs)


class Below:
    """All names below a domain."""

    def __init__(self, domain):
        self._end = f".{domain}"

    def __contains__(self, name):
        return isinstance(name, str) and name.endswith(self._end)


if __name__ == "__main__":
    main()
