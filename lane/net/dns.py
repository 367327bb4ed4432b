"""One DNS query to the name servers of this machine (RFC 1035), and the meaning of the response.

dnspython builds and parses the messages. It does not send them: its resolvers block in threads or need an
event loop of their own. gevent's two resolvers either report no time to live, or go on after their caller
has been killed. Here a query is one socket and one greenlet, and both are gone the moment the greenlet is
killed. Only the needed records of a response are parsed: dnspython imports a module for each type of record
that it meets and keeps it in a table, which a hostile server could fill.

A response is believed only if it comes from the queried address and port, with the id and the question of the
query (RFC 5452). Each socket is connected and used once, so the kernel drops packets from other addresses.
It also reports at once when nobody listens on the server's port.
"""

import socket
import struct
from collections import defaultdict
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Any, NamedTuple

import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdataclass
import dns.rdatatype
import gevent
from gevent import socket as gsocket

from lane.address import unmapped
from lane.errors import Status, TargetError
from lane.net.sockets import family_of, sockaddr
from lane.net.system import ResolvConf

A, AAAA = dns.rdatatype.A, dns.rdatatype.AAAA
TIMEOUT = 2.0
"""Seconds that a server has if resolv.conf sets no limit. Each further round doubles it."""
ATTEMPTS = 3
PAYLOAD = 1232
"""The advertised UDP payload size, in bytes, if resolv.conf enables EDNS (RFC 9715)."""
MAX_ANSWER = 8192
"""The largest response in bytes, some 250 addresses. A larger one would only keep the process busy."""

MAX_ALIASES = 16
MAX_TTL = 2**31 - 1
"""The largest time to live, in seconds. A larger value counts as 0 (RFC 2181 section 8)."""

_MALFORMED = (dns.exception.DNSException, ValueError, struct.error)

IpAddress = IPv4Address | IPv6Address


class DnsAnswer(NamedTuple):
    """The records of one type for a name."""

    addresses: tuple[IpAddress, ...]
    exists: bool
    """Whether the name exists at all."""
    ttl: float
    """Seconds that the answer is valid."""


class NameServers:
    """Queries name servers. The one that answered last is asked first. `port`: the servers' port."""

    def __init__(self, port: int = 53) -> None:
        self._port = port
        self._good: IpAddress | None = None
        self._turn = 0

    def ask(self, conf: ResolvConf, name: str, kind: dns.rdatatype.RdataType) -> DnsAnswer:
        """Look up the records of type `kind` for `name`, which is absolute and ASCII.

        Raises TargetError (HOST_UNREACHABLE) if no server gives a usable response.
        """
        question = dns.message.make_query(_labels(name), kind, use_edns=conf.edns, payload=PAYLOAD)
        failure = "name look-up timed out"
        for server, patience in self._schedule(conf):
            try:
                with gevent.Timeout(patience, _DnsTimeout()):
                    head, data = self._exchange(server, question, conf.over_tcp)
                answer = _read(head, data)
            except _DnsTimeout:
                continue
            except (OSError, _Useless, *_MALFORMED) as error:
                failure = f"name look-up failed for now: {_words(error)}"
                continue
            self._good = server
            return answer
        raise TargetError(Status.HOST_UNREACHABLE, failure)

    def _schedule(self, conf: ResolvConf) -> Iterator[tuple[IpAddress, float]]:
        """The servers to try in order, each with its time limit in seconds."""
        servers = list(conf.servers)
        if conf.rotate:
            self._turn += 1
            at = self._turn % len(servers)
            servers = servers[at:] + servers[:at]
        elif self._good in servers:
            servers.remove(self._good)
            servers.insert(0, self._good)
        for attempt in range(conf.attempts or ATTEMPTS):
            for server in servers:
                yield server, conf.timeout or TIMEOUT * 2**attempt

    def _exchange(
        self, server: IpAddress, question: dns.message.Message, over_tcp: bool
    ) -> tuple[dns.message.Message, bytes]:
        """Send the query; return the header of the response, and its bytes. Raises OSError or _Useless."""
        where, family = sockaddr(server, self._port), family_of(server)
        if not over_tcp:
            with gsocket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect(where)
                sock.send(question.to_wire())
                head, data = None, b""
                while head is None:
                    data = sock.recv(MAX_ANSWER)
                    head = _head(data, question)
            if not head.flags & dns.flags.TC:
                return head, data
        with gsocket.socket(family, socket.SOCK_STREAM) as sock:
            sock.connect(where)
            sock.sendall(question.to_wire(prepend_length=True))
            (size,) = struct.unpack("!H", _exactly(sock, 2))
            if size > MAX_ANSWER:
                raise _Useless("the answer is too long")
            data = _exactly(sock, size)
        head = _head(data, question)
        if head is None:
            raise _Useless("the name server does not speak DNS")
        return head, data


class _DnsTimeout(Exception):
    """The server did not respond in time."""


class _Useless(Exception):
    """A response without usable information."""


def _labels(name: str) -> dns.name.Name:
    return dns.name.Name([*name.encode("ascii").split(b"."), b""])


def _head(data: bytes, question: dns.message.Message) -> dns.message.Message | None:
    """Parse the header of a response to `question`; None if `data` is no such response."""
    try:
        head = dns.message.from_wire(data, question_only=True)
        return head if question.is_response(head) else None
    except _MALFORMED:
        return None


def _exactly(sock: Any, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = sock.recv(size - len(data))
        if not more:
            raise _Useless("the name server hung up")
        data += more
    return data


def _read(head: dns.message.Message, data: bytes) -> DnsAnswer:
    """Read the answer for the queried name. Raises _Useless, or one of _MALFORMED."""
    code = head.rcode()
    if code not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
        raise _Useless(f"the name server says {dns.rcode.to_text(code)}")
    (asked,) = head.question
    aliases: dict[dns.name.Name, tuple[dns.name.Name, int]] = {}
    found: defaultdict[dns.name.Name, list[tuple[IpAddress, int]]] = defaultdict(list)
    denial = 0
    for record in _records(data):
        if record.answers and record.kind == dns.rdatatype.CNAME:
            alias, _ = dns.name.from_wire(data, record.at)
            aliases[record.owner] = alias, record.ttl
        elif record.answers and record.kind == asked.rdtype:
            address = (IPv4Address if record.kind == A else IPv6Address)(data[record.at : record.end])
            found[record.owner].append((unmapped(address), record.ttl))
        elif record.kind == dns.rdatatype.SOA and not record.answers:
            (minimum,) = struct.unpack_from("!I", data, record.end - 4)
            denial = min(record.ttl, minimum)  # RFC 2308 section 5
    name, life = asked.name, MAX_TTL
    for _ in range(MAX_ALIASES):
        if name in found:
            addresses = tuple(address for address, _ in found[name])
            return DnsAnswer(addresses, True, min(life, *(ttl for _, ttl in found[name])))
        if name not in aliases:
            return DnsAnswer((), code == dns.rcode.NOERROR, denial)
        name, ttl = aliases[name]
        life = min(life, ttl)
    raise _Useless("its aliases do not end")


class _Record(NamedTuple):
    """A record of class IN. `at` and `end` delimit its data; `answers`: it is in the answer section."""

    answers: bool
    owner: dns.name.Name
    kind: int
    ttl: int
    at: int
    end: int


def _records(data: bytes) -> Iterator[_Record]:
    """The records of the answer and authority sections of a message (RFC 1035 section 4.1.3)."""
    questions, answers, authorities = struct.unpack_from("!4x3H", data)
    at = 12
    for _ in range(questions):
        at += dns.name.from_wire(data, at)[1] + 4
    for number in range(answers + authorities):
        owner, size = dns.name.from_wire(data, at)
        kind, network, ttl, length = struct.unpack_from("!HHIH", data, at + size)
        at += size + 10
        if network == dns.rdataclass.IN:
            yield _Record(number < answers, owner, kind, ttl if ttl <= MAX_TTL else 0, at, at + length)
        at += length


def _words(error: Exception) -> str:
    if isinstance(error, OSError):
        return f"the name server cannot be reached: {error.strerror or error}".lower()
    return str(error) if isinstance(error, _Useless) else "the name server's answer is malformed"
