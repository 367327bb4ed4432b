"""The rules of a client: how they are written, which one counts, and what a long list costs."""

import ipaddress
import socket
import sys
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lane.address import Address
from lane.egress import rules
from lane.egress.rules import Action, RouteRule, RouteTable, read_rules
from lane.errors import ConfigError, UsageError


def table(*texts):
    return RouteTable(RouteRule.parse(text) for text in texts)


def way(found, target):
    rule = found.find(Address.parse(target))
    return rule.text if rule else None


@pytest.mark.parametrize(
    ("text", "action", "place", "port"),
    [
        ("direct 10.0.0.0/8", Action.DIRECT, (4, 8, 10), None),
        (" BLOCK\t*:25 ", Action.BLOCK, "*", 25),
        ("lane *", Action.LANE, "*", None),
        ("lane *:*", Action.LANE, "*", None),
        ("direct 192.0.2.1:443", Action.DIRECT, (4, 32, 0xC0000201), 443),
        ("block [2001:db8::]:80", Action.BLOCK, (6, 128, 0x20010DB8 << 96), 80),
        ("block fe80::/10", Action.BLOCK, (6, 10, 0xFE80 >> 6), None),
        ("direct B\u00fccher.Example.:443", Action.DIRECT, "xn--bcher-kva.example", 443),
        ("direct 0.0.0.0/0", Action.DIRECT, (4, 0, 0), None),
    ],
)
def test_how_rules_are_written(text, action, place, port):
    rule = RouteRule.parse(text)
    assert (rule.action, rule.place, rule.port, rule.text) == (action, place, port, " ".join(text.split()))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected direct, block or lane, and a pattern"),
        ("direct", "expected direct, block or lane, and a pattern"),
        ("direct a b", "expected direct, block or lane, and a pattern"),
        ("allow example.com", "expected direct, block or lane, not 'allow'"),
        ("block *.example.com", "example.com stands for its subdomains"),
        ("block *:0", r"malformed rule 'block \*:0': the port must be"),
        ("block *:x", "the port must be"),
        ("block 10.0.0.1/8", "has host bits set"),
        ("block 10.0.0.0/33", "malformed rule"),
        ("block 127.1", "malformed rule"),
        ("block [::1", "expected"),
    ],
)
def test_what_is_no_rule(text, message):
    with pytest.raises(UsageError, match=message):
        RouteRule.parse(text)


@given(st.text(), st.sampled_from(["", "direct ", "block *", "lane [", "direct 1.2.3.4/", "block a."]))
def test_a_rule_is_read_or_refused(text, before):
    with suppress(UsageError):
        rule = RouteRule.parse(before + text)
        assert rule.text.isprintable()


def test_the_first_rule_that_matches_counts():
    found = table(
        "lane www.example.com:443",
        "block example.com",
        "direct example.com",
        "direct 10.0.0.0/8",
        "lane 10.1.0.0/16",
        "block *:25",
        "block 2001:db8::/32",
    )
    assert way(found, "www.example.com:443") == "lane www.example.com:443"
    assert way(found, "a.www.example.com:443") == "lane www.example.com:443"
    assert way(found, "www.example.com:80") == "block example.com"
    assert way(found, "EXAMPLE.com.:1") == "block example.com"
    assert way(found, "notexample.com:80") is None
    assert way(found, "example.com.org:80") is None
    assert way(found, "10.1.2.3:80") == "direct 10.0.0.0/8"
    assert way(found, "11.1.2.3:80") is None
    assert way(found, "other.org:25") == "block *:25"
    assert way(found, "192.0.2.1:25") == "block *:25"
    assert way(found, "[2001:db8::1]:25") == "block *:25"
    assert way(found, "[2001:db8::1]:26") == "block 2001:db8::/32"
    assert way(RouteTable(), "10.1.2.3:80") is None


@pytest.mark.parametrize(
    "host",
    [
        *("10.1", "0x0a000001", "012.0.0.1", "167772161", "[::ffff:10.0.0.1]"),
        *("10.0.0.1.", "10.1.", "\uff110.0.0.1"),  # a resolver takes them for addresses as well
    ],
)
def test_other_ways_to_write_an_address_are_that_address(host):
    assert way(table("block 10.0.0.0/8"), f"{host}:80") == "block 10.0.0.0/8"


@pytest.mark.parametrize("host", ["a..b", "x" * 64, ".", "a\u2024b"])
def test_what_is_no_name_matches_everywhere_only(host):
    assert RouteTable([RouteRule.parse("block a")]).find(Address(host, 80)) is None
    assert way(table("block a", "lane *"), f"{host}:80") == "lane *"


def test_a_name_is_never_looked_up(monkeypatch):
    def getaddrinfo(*_):
        raise AssertionError("a look-up")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert way(table("block 127.0.0.0/8", "block ::1"), "localhost:80") is None


DOMAINS = st.sampled_from(["a", "b.a", "c.b.a", "d.a", "ba", "x"])
NETWORKS = st.builds(
    lambda address, length: str(ipaddress.ip_network((address, length), strict=False)),
    st.integers(0, 3).map(lambda number: ipaddress.IPv4Address(number << 30 | number)),
    st.sampled_from([0, 1, 2, 31, 32]),
)
PORTS = st.sampled_from(["", ":1", ":2", ":*"])
RULES = st.tuples(st.sampled_from(["direct", "block", "lane"]), DOMAINS | NETWORKS | st.just("*"), PORTS)
HOSTS = DOMAINS | st.integers(0, 3).map(lambda number: str(ipaddress.IPv4Address(number << 30 | number)))


def matches(place, port, host, asked):
    """The meaning of a rule, in its simplest form."""
    if port not in ("", ":*", f":{asked}"):
        return False
    if place == "*":
        return True
    if "/" in place:
        return host[0].isdigit() and ipaddress.ip_address(host) in ipaddress.ip_network(place)
    return host == place or host.endswith(f".{place}")


@given(st.lists(RULES, max_size=12), HOSTS, st.sampled_from([1, 2, 3]))
def test_the_table_finds_what_a_walk_through_the_rules_finds(written, host, port):
    expected = next((rule for rule in written if matches(rule[1], rule[2], host, port)), None)
    texts = [f"{action} {place}{ports}" for action, place, ports in written]
    found = table(*texts).find(Address(host, port))
    assert (found.text if found else None) == ("{} {}{}".format(*expected) if expected else None)


def write(tmp_path, text):
    path = tmp_path / "rules"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_a_file_of_rules(tmp_path):
    text = "\ufeff# ours\r\n\r\ndirect example.com  # near\r\n\tblock *:25\n#block x\nlane *"
    assert [rule.text for rule in read_rules(write(tmp_path, text))] == [
        "direct example.com", "block *:25", "lane *"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "lane *\n\n#\nblok x\nlane *",
            ":4: malformed rule 'blok x': expected direct, block or lane, not 'blok'",
        ),
        ("lane *\x85\x0cblock\n", ":1: malformed rule"),
        (b"lane *\n\xff\n", ": not UTF-8 text"),
        (b"#" * (rules.MAX_FILE + 1), " is larger than 4194304 bytes"),
        ("lane *\n" * 100_001, ":100001: more than 100000 rules"),
    ],
    ids=["word", "line", "text", "size", "count"],
)
def test_what_is_wrong_with_a_file(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(ConfigError) as caught:
        list(read_rules(path))
    assert str(caught.value).startswith(f"{path}{message}")
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        list(read_rules(tmp_path / "none"))
    with pytest.raises(ConfigError, match="not a file"):
        list(read_rules(tmp_path))


@given(st.binary())
def test_any_file_is_read_or_refused(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp("rules"), data)
    with suppress(ConfigError):
        list(read_rules(path))


def steps(found, host):
    """How many functions are called to find a rule."""
    events = []
    found.find(Address(host, 443))  # the forms of a host are kept
    sys.setprofile(lambda frame, event, argument: events.append(event))
    try:
        found.find(Address(host, 443))
    finally:
        sys.setprofile(None)
    return sum(event in ("call", "c_call") for event in events)


@pytest.mark.parametrize("host", ["www.nowhere.example.org", "203.0.113.7"])
def test_ten_thousand_rules_cost_what_ten_cost(host):
    def written(count):
        for number in range(count):
            network = ipaddress.IPv4Address(number << 8)
            yield RouteRule.parse(f"block {network}/24" if number % 2 else f"block d{number}.example.com")

    few, many = (RouteTable(written(count)) for count in (10, 10_000))
    assert steps(many, host) == steps(few, host)
