"""Look-ups at real name servers on loopback: what is asked and believed, kept and given up."""

import socket as native
import struct
from contextlib import suppress
from ipaddress import ip_address

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import gevent
import pytest
from gevent import socket
from gevent.event import Event
from hypothesis import given
from hypothesis import strategies as st

from lane.errors import Status, TargetError
from lane.net import dns as net_dns
from lane.net import resolver as net_resolver
from lane.net import system
from lane.net.resolver import Resolver
from lane.testing.harness import outcome, until
from tests.support.clock import give_gevent
from tests.support.descriptors import no_descriptors, opened
from tests.support.names import NameServer, pack, records, write_etc


@pytest.fixture(autouse=True)
def _deadline():
    gevent.idle()
    with gevent.Timeout(60, AssertionError("the test hangs")):
        yield


@pytest.fixture
def server():
    one = NameServer()
    yield one
    one.close()


@pytest.fixture
def make(tmp_path, server):
    """A function that makes a resolver of a system whose files say what it is given."""

    def make(conf="", timeout=30.0, **files):
        return Resolver(write_etc(tmp_path, conf, **files), server.port, timeout)

    return make


def found(resolver, host, user=""):
    return [str(address) for address in resolver.resolve(host, user)]


def failure(resolver, host, user=""):
    with pytest.raises(TargetError) as caught:
        resolver.resolve(host, user)
    assert "\n" not in str(caught.value)
    return caught.value


def later(monkeypatch, seconds):
    now = net_resolver.monotonic()
    monkeypatch.setattr(net_resolver, "monotonic", lambda: now + seconds)


# What is asked


def test_families_take_turns_ipv6_first_and_each_is_asked_for_once(make, server):
    known = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8::2"]
    server.zones["a.test"] = [f"AAAA {one}" if ":" in one else f"A {one}" for one in known]
    resolver = make()
    first = found(resolver, "a.test")
    assert sorted(first) == known
    assert [":" in one for one in first] == [True, False, True, False, False]
    assert found(resolver, "A.Test") == first
    assert sorted(server.asked) == [("a.test", "A", False), ("a.test", "AAAA", False)]


@pytest.mark.parametrize("host", ["192.0.2.1", "::ffff:192.0.2.1", "3221225985", "192.0.513", "192.0.2.1."])
def test_an_address_needs_no_look_up(make, server, host):
    assert found(make(), host) == ["192.0.2.1"]
    assert not server.asked


@pytest.mark.parametrize("host", ["", "a..b", "x" * 64, "a\0b", "[::1]", "a b"])
def test_what_is_no_name_is_not_looked_up(make, server, host):
    assert str(failure(make(), host)).startswith("not a host name")
    assert not server.asked


def test_names_in_unicode_are_asked_for_as_browsers_do(make, server):
    server.zones["xn--strae-oqa.test"] = ["A 192.0.2.1"]
    assert found(make(), "Straße.test") == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("conf", "host", "asked"),
    [
        ("search corp.test", "example.test", ["example.test", "example.test.corp.test"]),
        ("search corp.test", "example.test.", ["example.test"]),
        ("search corp.test", "host", ["host.corp.test", "host"]),
        ("search corp.test", "host.", ["host"]),
        ("search a.test b.test\nsearch c.test. D.test", "host", ["host.c.test", "host.d.test", "host"]),
        ("domain a.test", "host", ["host.a.test", "host"]),
        ("search a.test\noptions ndots:2", "x.y", ["x.y.a.test", "x.y"]),
        ("search a.test\noptions ndots:2", "x.y.z", ["x.y.z", "x.y.z.a.test"]),
        ("search a.test\noptions ndots:0", "host", ["host", "host.a.test"]),
        ("search .", "host", ["host"]),
        ("; search x.test\n#search y.test\nnonsense\noptions ndots:x\nsearch a.test", "h", ["h.a.test", "h"]),
    ],
)
def test_search_domains(make, server, conf, host, asked):
    assert str(failure(make(conf), host)) == "name not known"
    assert list(dict.fromkeys(server.names())) == asked


def test_a_search_domain_that_knows_the_name(make, server):
    server.zones["host.b.test"] = ["A 192.0.2.1"]
    assert found(make("search a.test b.test c.test"), "host") == ["192.0.2.1"]
    assert "host.c.test" not in server.names()


def test_without_search_domains_the_machines_own_counts(make, server, monkeypatch):
    monkeypatch.setattr(native, "gethostname", lambda: "laptop.home.test")
    server.zones["printer.home.test"] = ["A 192.0.2.1"]
    assert found(make(), "printer") == ["192.0.2.1"]


def test_the_environment_counts_as_for_the_c_library(make, server, monkeypatch):
    monkeypatch.setenv("LOCALDOMAIN", "env.test")
    monkeypatch.setenv("RES_OPTIONS", "ndots:3 use-vc")
    failure(make("search a.test"), "x.y")
    assert server.asked[0][::2] == ("x.y.env.test", True)


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


# One family


@pytest.mark.parametrize(("slow", "rest"), [("AAAA", "192.0.2.1"), ("A", "2001:db8::1")])
def test_a_family_that_is_late_is_not_waited_for(make, server, monkeypatch, slow, rest):
    monkeypatch.setattr(net_resolver, "LATE_IPV4", 0.05)
    server.zones["a.test"] = ["A 192.0.2.1", "AAAA 2001:db8::1"]
    server.silent.add(("a.test", slow))
    resolver = make()
    assert found(resolver, "a.test") == [rest]
    later(monkeypatch, net_resolver.PARTIAL_LIFE + 1)  # and not for as long as the other one holds
    server.silent.clear()
    assert found(resolver, "a.test") == ["2001:db8::1", "192.0.2.1"]


@pytest.mark.parametrize("code", [dns.rcode.NXDOMAIN, dns.rcode.SERVFAIL, dns.rcode.NOTIMP])
def test_a_server_that_gets_ipv6_wrong_does_not_hide_ipv4(make, server, code):
    """RFC 4074 section 4."""

    def lie(query, response):
        if query.question[0].rdtype == net_dns.AAAA:
            response.answer.clear()
            response.set_rcode(code)
        return [pack(response)]

    server.lie = lie
    server.zones["a.test"] = ["A 192.0.2.1"]
    assert found(make(), "a.test") == ["192.0.2.1"]


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


# Several servers


@pytest.fixture
def second(server):
    one = NameServer("127.0.0.2", server.port)
    one.zones["a.test"] = one.zones["b.test"] = ["A 192.0.2.2"]
    yield one
    one.close()


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


def test_without_a_file_the_machine_itself_is_asked(tmp_path, server):
    server.zones["a.test"] = ["A 192.0.2.1"]
    assert found(Resolver(tmp_path / "nowhere", server.port), "a.test") == ["192.0.2.1"]


def test_another_file_means_other_servers_and_nothing_that_was_known(make, server, second, tmp_path):
    server.zones["a.test"] = ["A 192.0.2.1"]
    resolver = make()
    assert found(resolver, "a.test") == ["192.0.2.1"]
    write_etc(tmp_path, servers=("127.0.0.2",))
    assert found(resolver, "a.test") == ["192.0.2.2"]


# What is kept


def test_an_answer_is_kept_for_as_long_as_it_holds(make, server, monkeypatch):
    server.ttl = 20
    server.zones["a.test"] = ["A 192.0.2.1"]
    resolver = make("options no-aaaa")
    found(resolver, "a.test")
    server.zones["a.test"] = ["A 192.0.2.2"]
    later(monkeypatch, 19)
    assert found(resolver, "a.test") == ["192.0.2.1"]
    later(monkeypatch, 2)
    assert found(resolver, "a.test") == ["192.0.2.2"]


def test_the_shortest_life_of_an_alias_counts_and_0_is_not_kept(make, server):
    def lie(query, response):
        response.answer[0].ttl = 0
        return [pack(response)]

    server.lie = lie
    server.zones |= {"a.test": ["CNAME b.test"], "b.test": ["A 192.0.2.1"]}
    resolver = make("options no-aaaa")
    assert found(resolver, "a.test") == found(resolver, "a.test")
    assert server.names() == ["a.test", "a.test"]


@pytest.mark.parametrize(
    ("code", "life"),
    [(None, net_resolver.NEGATIVE_LIFE_MOST), ("SERVFAIL", net_resolver.FAILURE_LIFE)],
    ids=["unknown", "failed"],
)
def test_failures_are_kept_shortly(make, server, monkeypatch, code, life):
    if code:
        server.codes["a.test"] = code
    resolver = make("options attempts:1")
    failure(resolver, "a.test")
    failure(resolver, "a.test")
    assert len(server.asked) == 2
    server.codes.clear()
    server.zones["a.test"] = ["A 192.0.2.1"]
    later(monkeypatch, life + 1)
    assert found(resolver, "a.test") == ["192.0.2.1"]


def test_what_is_kept_is_bounded(make, server, monkeypatch):
    monkeypatch.setattr(net_resolver, "REMEMBERED", 10)
    resolver = make()
    for number in range(30):
        failure(resolver, f"{number}.x.test")
    assert len(resolver._known) == 10


# Who waits


def test_one_look_up_serves_all_who_ask_at_once(make, server):
    server.zones["a.test"] = ["A 192.0.2.1"]
    server.slow["a.test"] = go = Event()
    resolver = make()
    jobs = [gevent.spawn(found, resolver, "a.test", f"user {n % 3}") for n in range(50)]
    until(lambda: len(server.asked) == 2)
    jobs.pop(0).kill()  # who began it has gone
    go.set()
    assert {tuple(job.get()) for job in jobs} == {("192.0.2.1",)}
    assert len(server.asked) == 2


def test_a_look_up_ends_with_the_last_who_waits(make, server):
    server.silent |= {f"{number}.test" for number in range(20)}
    resolver = make()
    before = opened()
    jobs = [gevent.spawn(found, resolver, f"{number}.test") for number in range(20)]
    until(lambda: len(server.asked) == 40)
    assert len(opened() - before) == 40
    gevent.killall(jobs)
    until(lambda: not opened() - before)
    assert not resolver._lookups
    assert not len(resolver._shares)


def test_nobody_answers_in_time(make, server):
    server.silent.add("a.test")
    before = opened()
    error = failure(make(timeout=0.1), "a.test")
    assert (error.status, str(error)) == (Status.HOST_UNREACHABLE, "name look-up timed out")
    until(lambda: not opened() - before)


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


def test_dead_names_of_one_user_hold_up_nobody_else(make, server):
    server.zones["good.test"] = ["A 192.0.2.1"]
    resolver = make()
    dead = [f"{number}.dead.test" for number in range(net_resolver.MOST)]
    server.silent |= set(dead)
    jobs = [gevent.spawn(outcome, resolver.resolve, name, "mallory") for name in dead]
    until(lambda: len(resolver._shares) == net_resolver.MOST // 2)
    assert found(resolver, "good.test", "alice") == ["192.0.2.1"]
    assert not any(job.ready() for job in jobs)
    gevent.killall(jobs)


def test_the_line_of_a_user_is_bounded(make, server, monkeypatch):
    monkeypatch.setattr(net_resolver, "MOST", 4)
    monkeypatch.setattr(net_resolver, "WAITING", 3)
    resolver = make()
    server.silent |= {f"{number}.test" for number in range(20)}
    jobs = [gevent.spawn(outcome, resolver.resolve, f"{number}.test", "mallory") for number in range(10)]
    until(lambda: sum(job.ready() for job in jobs) == 5)
    errors = [job.value for job in jobs if job.ready()]
    assert {(error.status, str(error)) for error in errors} == {
        (Status.FAILURE, "too many names are looked up at once")
    }
    gevent.killall(jobs)
    server.zones["5.test"] = ["A 192.0.2.1"]
    server.silent.clear()
    assert found(resolver, "5.test", "mallory") == ["192.0.2.1"]  # that was no answer to be kept


# The hosts file


def test_the_hosts_file_comes_first_in_both_families_and_is_read_again(make, server, tmp_path):
    server.zones["a.test"] = ["A 192.0.2.1"]
    hosts = "192.0.2.7 A.test alias # 192.0.2.8\n2001:db8::7\ta.test\n\nnonsense b.test\n192.0.2.9 a.test\n"
    resolver = make(hosts=hosts)
    assert (
        found(resolver, "a.TEST") == found(resolver, "a.test.") == ["2001:db8::7", "192.0.2.7", "192.0.2.9"]
    )
    assert found(resolver, "alias") == ["192.0.2.7"]
    assert not server.asked
    write_etc(tmp_path, hosts="::ffff:192.0.2.8 a.test\n")
    assert found(resolver, "a.test") == ["192.0.2.8"]
    (tmp_path / "hosts").unlink()
    assert found(resolver, "a.test") == ["192.0.2.1"]


def test_without_descriptors_what_was_read_holds_and_is_read_again_with_some(make, server, tmp_path):
    resolver = make(hosts="192.0.2.7 a.test\n")
    assert found(resolver, "a.test") == ["192.0.2.7"]
    write_etc(tmp_path, hosts="192.0.2.8 a.test\n")
    with no_descriptors():
        assert found(resolver, "a.test") == ["192.0.2.7"]
        assert failure(resolver, "b.test").status is Status.HOST_UNREACHABLE
    assert found(resolver, "a.test") == ["192.0.2.8"]


def test_localhost_is_this_machine_whatever_the_name_server_says(make, server):
    server.zones["localhost"] = server.zones["x.localhost"] = ["A 192.0.2.1"]
    resolver = make()
    for host in ("localhost", "LOCALHOST.", "x.localhost"):
        assert found(resolver, host) == ["::1", "127.0.0.1"]
    assert not server.asked
    assert found(make(hosts="127.0.0.1 localhost"), "localhost") == ["127.0.0.1"]


# What only the C library knows


@pytest.fixture
def c_library(monkeypatch):
    asked = []

    def getaddrinfo(name, *_, **__):
        asked.append(name.decode())
        if name == b"printer.local":
            return [(2, 1, 6, "", ("192.0.2.1", 0)), (2, 2, 17, "", ("192.0.2.1", 0))]
        raise native.gaierror(native.EAI_NONAME, "unknown")

    monkeypatch.setattr(system.socket, "getaddrinfo", getaddrinfo)
    return asked


@pytest.mark.parametrize(
    ("sources", "dns_asked", "c_asked"),
    [
        (None, True, False),
        ("files dns", True, False),
        ("files mdns4_minimal [NOTFOUND=return] dns", False, True),
        ("files dns mymachines", True, True),
        ("files [!UNAVAIL=return success=continue] dns # mdns", True, False),
    ],
)
def test_other_sources_of_nsswitch_are_asked(make, server, c_library, capfd, sources, dns_asked, c_asked):
    resolver = make(sources=sources)
    result = outcome(resolver.resolve, "printer.local")
    assert (result == [ip_address("192.0.2.1")]) == c_asked
    assert ("printer.local" in server.names()) == dns_asked
    assert c_library == ["printer.local"] * c_asked
    if c_asked:
        assert str(failure(resolver, "no.local")) == "name not known"
    assert capfd.readouterr().err == ""


def test_names_of_the_dns_do_not_reach_the_c_library(make, server, c_library):
    server.zones["a.test"] = ["A 192.0.2.1"]
    assert found(make(sources="mdns dns myhostname"), "a.test") == ["192.0.2.1"]
    assert c_library == []


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
