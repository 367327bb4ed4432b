"""Name servers on loopback that are asked: what is believed of their answers, and who is asked next."""

import struct
from contextlib import suppress

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import gevent
import pytest
from gevent import socket
from hypothesis import given
from hypothesis import strategies as st

from lane.errors import Status, TargetError
from lane.net import dns as net_dns
from lane.net import resolver as net_resolver
from lane.net import system
from lane.testing.harness import until
from tests.support.clock import give_gevent
from tests.support.lookups import failure, found
from tests.support.names import pack, records

# What is answered


def test_aliases_are_followed(make, server):
    server.zones |= {
        "a.test": ["CNAME b.test"],
        "b.test": ["CNAME c.test"],
        "c.test": ["A 192.0.2.1", "AAAA 2001:db8::1"],
    }
    assert found(make(), "a.test") == ["2001:db8::1", "192.0.2.1"]
    server.zones["to.nowhere.test"] = ["CNAME nowhere.test"]
    assert str(failure(make(), "to.nowhere.test")) == "name not known"


def test_aliases_that_go_around_are_no_answer(make, server):
    def lie(query, response):
        response.answer = [records("a.test", 9, "CNAME", "b.test."), records("b.test", 9, "CNAME", "a.test.")]
        return [pack(response)]

    server.lie = lie
    assert str(failure(make(), "a.test")).startswith("name look-up failed for now")


@pytest.mark.parametrize("over_tcp", [False, True])
def test_more_addresses_than_a_packet_holds(make, server, over_tcp):
    server.zones["many.test"] = [f"A 192.0.2.{number}" for number in range(1, 100)]
    resolver = make("options use-vc" if over_tcp else "")
    assert len(set(found(resolver, "many.test"))) == net_resolver.MAX_ADDRESSES
    assert ("many.test", "A", True) in server.asked
    assert (("many.test", "A", False) in server.asked) == (not over_tcp)


def test_an_answer_that_is_too_large_is_none(make, server):
    server.zones["huge.test"] = [f"AAAA 2001:db8::{number:x}" for number in range(1, 1000)]
    assert str(failure(make(), "huge.test")) == "name look-up failed for now: the answer is too long"


def test_options_of_resolv_conf(make, server):
    seen = []

    def lie(query, response):
        seen.append((query.edns, query.payload))
        return [pack(response)]

    server.lie = lie
    server.zones["a.test"] = ["A 192.0.2.1"]
    assert found(make(), "a.test") == found(make("options edns0 no-aaaa"), "a.test") == ["192.0.2.1"]
    assert seen == [(-1, 0), (-1, 0), (0, net_dns.PAYLOAD)]


def test_an_ipv4_address_that_comes_as_ipv6_is_one(make, server):
    server.zones["a.test"] = ["AAAA ::ffff:127.0.0.1", "A 127.0.0.1"]
    assert found(make(), "a.test") == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("zone", "code", "text"),
    [
        (None, None, "name not known"),
        (["MX 10 mail.test."], None, "name has no address"),
        (None, "SERVFAIL", "name look-up failed for now: the name server says SERVFAIL"),
        (None, "REFUSED", "name look-up failed for now: the name server says REFUSED"),
        (None, "FORMERR", "name look-up failed for now: the name server says FORMERR"),
    ],
)
def test_why_there_is_no_address(make, server, zone, code, text):
    if zone:
        server.zones["a.test"] = zone
    if code:
        server.codes["a.test"] = code
    error = failure(make(), "a.test")
    assert (error.status, str(error)) == (Status.HOST_UNREACHABLE, text)


# What is believed


def test_only_the_answer_to_the_question_counts(make, server):
    def lie(query, response):
        wrong = dns.message.make_response(query)
        wrong.answer.append(records("a.test", 9, "A", "203.0.113.1"))
        wrong.id ^= 1
        other = dns.message.make_response(dns.message.make_query("b.test", "A", id=query.id))
        other.answer.append(records("b.test", 9, "A", "203.0.113.2"))
        beside = dns.message.make_response(query)
        beside.answer.append(records("evil.test", 9, "A", "203.0.113.3"))
        beside.flags &= ~dns.flags.QR
        return [
            pack(wrong),
            pack(other),
            pack(beside),
            b"",
            b"\0",
            b"\xff" * 40,
            query.to_wire(),
            pack(response),
        ]

    server.lie = lie
    server.zones["a.test"] = ["A 192.0.2.1"]
    assert found(make("options no-aaaa"), "a.test") == ["192.0.2.1"]


def test_records_of_other_names_count_for_nothing(make, server):
    def lie(query, response):
        response.answer.append(records("other.test", 9, "A", "203.0.113.1"))
        response.additional.append(records("a.test", 9, "A", "203.0.113.2"))
        return [pack(response)]

    server.lie = lie
    server.zones["a.test"] = ["A 192.0.2.1"]
    resolver = make("options no-aaaa")
    assert found(resolver, "a.test") == ["192.0.2.1"]
    server.lie = None
    assert str(failure(resolver, "other.test")) == "name not known"


def test_an_answer_from_elsewhere_counts_for_nothing(make, server):
    """Not even one with the right id and question, at the right port."""
    queries = []
    server.lie = lambda query, response: queries.append(query) or []
    job = gevent.spawn(found, make("options no-aaaa timeout:30"), "a.test")
    until(lambda: queries)
    response = dns.message.make_response(queries[0])
    response.answer.append(records("a.test", 9, "A", "203.0.113.1"))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as spoofer:
        spoofer.bind(("127.0.0.2", server.port))
        spoofer.sendto(pack(response), server.asker)
    response.answer = [records("a.test", 9, "A", "192.0.2.1")]
    server.udp.sendto(pack(response), server.asker)
    assert job.get() == ["192.0.2.1"]


@given(st.binary(max_size=80), st.integers(0, 60), st.booleans())
def test_any_bytes_are_an_answer_or_none(data, at, insert):
    query = dns.message.make_query("a.test", "A", id=7)
    response = dns.message.make_response(query)
    response.answer.append(records("a.test", 9, "CNAME", "b.test."))
    response.answer.append(records("b.test", 9, "A", "192.0.2.1"))
    wire = response.to_wire()
    wire = wire[:at] + data + wire[at if insert else at + len(data) :]
    head = net_dns._head(wire, query)
    if head is not None:
        with suppress(net_dns._Useless, *net_dns._MALFORMED):
            net_dns._read(head, wire)


# Several servers, and packets that are lost


@pytest.mark.parametrize("how", ["silent", "gone", "SERVFAIL"])
def test_the_next_server_is_asked_and_is_the_first_from_then_on(make, server, second, monkeypatch, how):
    monkeypatch.setattr(net_dns, "TIMEOUT", 0.05)
    if how == "silent":
        server.silent.add("a.test")
    elif how == "gone":
        server.close()
    else:
        server.codes["a.test"] = how
    resolver = make(servers=("127.0.0.1", "127.0.0.2"))
    assert found(resolver, "a.test") == ["192.0.2.2"]
    before = len(server.asked)
    assert found(resolver, "b.test") == ["192.0.2.2"]
    assert len(server.asked) == before


def test_a_server_that_can_not_be_reached_is_said(make, server):
    server.close()
    error = failure(make(), "a.test")
    assert str(error) == "name look-up failed for now: the name server cannot be reached: connection refused"


def test_servers_take_turns_where_that_is_wanted(make, server, second):
    for number in range(6):
        server.zones[f"{number}.test"] = second.zones[f"{number}.test"] = ["A 192.0.2.1"]
    resolver = make("options rotate", servers=("127.0.0.1", "127.0.0.2"))
    for number in range(6):
        found(resolver, f"{number}.test")
    assert len(server.asked) == len(second.asked) == 6


def test_a_packet_that_is_lost_is_sent_again(make, server, monkeypatch):
    monkeypatch.setattr(net_dns, "TIMEOUT", 0.05)
    lost = []

    def lie(query, response):
        kind = query.question[0].rdtype
        if kind in lost:
            return [pack(response)]
        lost.append(kind)
        return []

    server.lie = lie
    server.zones["a.test"] = ["A 192.0.2.1"]
    assert found(make(), "a.test") == ["192.0.2.1"]


def test_the_time_that_resolv_conf_gives(make, server, monkeypatch):
    given = []
    give_gevent(monkeypatch, net_dns, Timeout=lambda seconds, error: given.append(seconds) or Expired(error))

    class Expired:
        def __init__(self, error):
            self.error = error

        def __enter__(self):
            raise self.error

        def __exit__(self, *_):
            pass

    servers = net_dns.NameServers(server.port)
    for conf, expected in (
        ("", [2, 2, 4, 4, 8, 8]),
        ("options timeout:1 attempts:2", [1, 1, 1, 1]),
        ("options timeout:99 attempts:99", [30] * 10),
        ("options timeout:0 attempts:0", [1, 1]),
    ):
        given.clear()
        text = f"nameserver 127.0.0.1\nnameserver 127.0.0.2\n{conf}"
        with pytest.raises(TargetError, match="timed out"):
            servers.ask(system.ResolvConf.parse(text), "a.test", net_dns.A)
        assert given == expected


def test_records_of_strange_types_leave_nothing_behind(make, server):
    """dnspython keeps a class for each type and class that it parses, for as long as the process lives."""

    def lie(query, response):
        wire = bytearray(response.to_wire())
        wire[6:8] = (101).to_bytes(2, "big")  # answers
        strange = [b"\xc0\x0c" + struct.pack("!HHIH", 65280 + n, 9 + n, 1, 0) for n in range(100)]
        return [bytes(wire) + b"".join(strange)]

    server.lie = lie
    server.zones["a.test"] = ["A 192.0.2.1"]
    resolver = make("options no-aaaa")
    server.zones["b.test"] = ["A 192.0.2.1"]
    assert found(resolver, "a.test") == ["192.0.2.1"]  # what is parsed at all is known now
    before = len(dns.rdata._rdata_classes)
    assert found(resolver, "b.test") == ["192.0.2.1"]
    assert len(dns.rdata._rdata_classes) == before
