"""Look-ups: what is asked for, which family is waited for, what is kept, and who waits."""

import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdata
import gevent
import pytest
from gevent.event import Event

from lane.errors import Status
from lane.net import dns as net_dns
from lane.net import resolver as net_resolver
from lane.testing.harness import outcome, until
from tests.support.descriptors import opened
from tests.support.lookups import failure, found, later
from tests.support.names import pack

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
