"""The egress policy: what passes, what does not, and in which order rules are asked."""

import ipaddress

import pytest

from lane.egress import policy as module
from lane.egress.policy import ListenRule, Policy, Rule
from lane.errors import Status, TargetError, UsageError

LOCAL = ["127.0.0.1", "127.255.255.254", "::1", "10.1.2.3", "172.16.0.1", "172.31.255.255", "192.168.1.1",
         "fc00::1", "fdff::1", "169.254.169.254", "fe80::1", "::ffff:127.0.0.1"]  # fmt: skip
NEVER = [
    "0.0.0.0", "0.1.2.3", "100.64.0.1", "100.127.255.255", "192.0.0.1", "192.0.0.170", "192.0.2.1",
    "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.1", "203.0.113.1", "224.0.0.1",
    "239.255.255.255", "240.0.0.1", "255.255.255.255", "::", "::2", "::127.0.0.1", "::8.8.8.8",
    "::ffff:0:7f00:1", "::ffff:224.0.0.1", "64:ff9b::7f00:1", "64:ff9b::808:808",
    "64:ff9b:1::1", "64:ff9b:1:ffff::7f00:1", "100::1", "100:0:0:1::1", "2001::1", "2001:0:7f00:1::",
    "2001:2::1", "2001:10::1", "2001:20::1", "2001:1ff::1", "2001:db8::1", "2002:7f00:1::1", "2002::1",
    "3fff::1", "4000::1", "5f00::1", "fec0::1", "feff::1", "ff02::1", "ff0e::1", "1::1", "8000::1", "e000::1",
    "2a00::5efe:7f00:1", "2a00::200:5efe:a00:1",
]  # fmt: skip
PUBLIC = [
    "::ffff:8.8.8.8", "1.1.1.1", "8.8.8.8", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
    "126.255.255.255", "128.0.0.0", "169.253.255.255", "172.15.255.255", "172.32.0.0",
    "192.0.1.0", "192.167.255.255", "198.17.255.255", "198.20.0.0", "223.255.255.255", "2001:200::1",
    "2001:4860:4860::8888", "2003::1",
    "2606:4700::1111", "2a00::1", "2000::1", "3ffe::1", "2a00::5eff:7f00:1",
]  # fmt: skip


def allowed(policy, address, host=None, port=443):
    refusal = None
    try:
        policy.check(host or address, ipaddress.ip_address(address), port)
    except TargetError as error:
        refusal = error
    assert refusal is None or (refusal.status is Status.NOT_ALLOWED and address not in str(refusal))
    return refusal is None


def policy(*allow, deny=(), local=False):
    return Policy([Rule.parse(text) for text in allow], [Rule.parse(text) for text in deny], local=local)


@pytest.mark.parametrize("address", LOCAL)
def test_addresses_are_for_the_local_server_only(address):
    assert not allowed(policy(), address)
    assert allowed(policy(local=True), address)


@pytest.mark.parametrize("address", NEVER)
@pytest.mark.parametrize("local", [False, True])
def test_what_is_not_plainly_public_is_refused(address, local):
    assert not allowed(policy(local=local), address)


@pytest.mark.parametrize("address", PUBLIC)
def test_the_public_internet_passes(address):
    assert allowed(policy(), address)


def test_the_table_covers_what_the_library_calls_not_global():
    """The boundaries of every block that Python knows, against a table that must be at least as strict."""
    seen = 0
    for version in (ipaddress._IPv4Constants, ipaddress._IPv6Constants):
        for network in version._private_networks:
            seen += 1
            assert not allowed(policy(), str(network[0]))
            assert not allowed(policy(), str(network[-1]))
    assert seen > 20


@pytest.fixture
def own(monkeypatch):
    """Two public addresses of this machine."""
    addresses = {ipaddress.ip_address(text) for text in ("8.8.4.4", "2600::1")}
    monkeypatch.setattr(module, "is_here", addresses.__contains__)
    return ["8.8.4.4", "::ffff:8.8.4.4", "2600::1"]


def test_the_machines_own_addresses_are_for_the_local_server_only(own):
    assert not any(allowed(policy(), address) for address in own)
    assert not any(allowed(policy("10.0.0.0/8", "8.8.8.0/24"), address) for address in own)
    assert all(allowed(policy(local=True), address) for address in own)
    assert allowed(policy(), "8.8.8.8")


def test_an_allow_rule_opens_the_machines_own_addresses(own):
    one = policy("8.8.4.4:80", "2600::1", "own.test:22")
    assert [allowed(one, address, port=80) for address in own] == [True, True, True]
    assert [allowed(one, address, port=443) for address in own] == [False, False, True]
    assert allowed(one, "8.8.4.4", host="own.test", port=22)
    assert not allowed(one, "8.8.4.4", host="other.test", port=22)
    assert all(allowed(policy("0.0.0.0/0", "::/0"), address) for address in own)
    assert not any(allowed(policy("0.0.0.0/0", "::/0", deny=["8.8.4.4", "2600::/64"]), one) for one in own)


@pytest.mark.parametrize("address", ["fe80::1%lo", "fe80::1%2", "2a00::1%eth0", "::1%1"])
def test_a_scope_is_refused_whatever_the_rules_say(address):
    assert not allowed(policy("::/0", local=True), address)


def test_an_allow_rule_opens_what_it_names_and_no_more():
    one = policy("10.1.0.0/16:443", "[fd00::1]:22", "192.168.0.7")
    assert allowed(one, "10.1.2.3")
    assert not allowed(one, "10.1.2.3", port=80)
    assert not allowed(one, "10.2.0.1")
    assert allowed(one, "fd00::1", port=22)
    assert not allowed(one, "fd00::1", port=23)
    assert not allowed(one, "fd00::2", port=22)
    assert all(allowed(one, "192.168.0.7", port=port) for port in (1, 80, 65535))
    assert allowed(one, "::ffff:10.1.2.3")  # the same address
    assert not allowed(one, "::ffff:10.2.0.1")


@pytest.mark.parametrize(
    ("form", "denied"),
    [("0.0.0.0", "127.0.0.0/8"), ("::ffff:0.0.0.0", "127.0.0.1"), ("::", "::1"), ("::", "127.0.0.0/8")],
)
def test_an_unspecified_address_is_loopback_to_the_system(form, denied):
    assert not allowed(policy("0.0.0.0/0", "::/0", deny=[denied]), form)
    assert allowed(policy("0.0.0.0/0", "::/0", deny=["11.0.0.0/8"]), form)


def test_deny_comes_before_allow():
    one = policy(
        "10.0.0.0/8", "example.com", deny=["10.1.0.0/16", "bad.example.com", "9.9.9.9:53", "1.1.1.1"]
    )
    assert allowed(one, "10.2.0.1")
    assert not allowed(one, "10.1.0.1")
    assert not allowed(one, "10.1.0.1", host="example.com")
    assert not allowed(one, "8.8.8.8", host="x.bad.example.com")
    assert not allowed(one, "9.9.9.9", port=53)
    assert allowed(one, "9.9.9.9", port=443)
    assert not allowed(one, "1.1.1.1")


@pytest.mark.parametrize(
    "form",
    ["::10.1.2.3", "64:ff9b::a01:203", "64:ff9b:1::a01:203", "2002:a01:203::1",
     "2001:0:808:808:0:0:f5fe:fdfc", "2a00::5efe:a01:203"],
)  # fmt: skip
def test_a_denied_network_is_denied_in_every_form(form):
    assert allowed(policy("::/0"), form)
    assert not allowed(policy("::/0", deny=["10.0.0.0/8"]), form)
    assert allowed(policy("::/0", deny=["11.0.0.0/8"]), form)


def test_a_domain_rule_is_for_that_name_and_its_subdomains():
    one = policy("Home.Example.", "web.example:443")
    assert allowed(one, "10.0.0.1", host="home.example")
    assert allowed(one, "127.0.0.1", host="NAS.home.example.")
    assert not allowed(one, "10.0.0.1", host="nothome.example")
    assert not allowed(one, "10.0.0.1", host="home.example.org")
    assert not allowed(one, "10.0.0.1")
    assert allowed(one, "10.0.0.1", host="web.example")
    assert not allowed(one, "10.0.0.1", host="web.example", port=80)


@pytest.mark.parametrize(
    "name", ["EVIL.example", "evil.example.", "\uff45vil.example", "evil\u3002example", "a.Evil.Example"]
)
def test_no_spelling_of_a_denied_name_passes(name):
    assert not allowed(policy(deny=["evil.example"]), "8.8.8.8", host=name)


def test_a_unicode_domain_and_its_ascii_form_are_one():
    assert Rule.parse("straße.example") == Rule.parse("xn--strae-oqa.example")
    assert Rule.parse("straße.example") != Rule.parse("strasse.example")


def test_a_denied_domain_is_what_browsers_call_it():
    one = policy(deny=["straße.test"])
    assert not allowed(one, "8.8.8.8", host="xn--strae-oqa.test")
    assert not allowed(one, "8.8.8.8", host="www.Straße.test.")
    assert allowed(one, "8.8.8.8", host="strasse.test")


@pytest.mark.parametrize(
    ("rule", "same"),
    [("::ffff:10.0.0.0/104:443", "10.0.0.0/8:443"), ("[::ffff:10.1.2.3]:443", "10.1.2.3:443")],
)
def test_a_rule_for_a_mapped_network_is_one_for_the_ipv4_network(rule, same):
    assert Rule.parse(rule.replace("::ffff:10.0.0.0/104", "[::ffff:10.0.0.0/104]")) == Rule.parse(same)
    assert not allowed(policy("10.0.0.0/8", deny=[same]), "::ffff:10.1.2.3")


def test_where_to_listen_is_unmapped_too():
    assert ListenRule.parse("[::ffff:192.0.2.1]:80") == ListenRule.parse("192.0.2.1:80")


@pytest.mark.parametrize(
    ("text", "network", "domain", "port"),
    [
        ("10.0.0.0/8", "10.0.0.0/8", None, None),
        (" 10.0.0.0/8:443 ", "10.0.0.0/8", None, 443),
        ("10.0.0.1:*", "10.0.0.1/32", None, None),
        ("fd00::/8", "fd00::/8", None, None),
        ("::1", "::1/128", None, None),
        ("[fd00::/8]:22", "fd00::/8", None, 22),
        ("[::1]", "::1/128", None, None),
        ("example.com", None, "example.com", None),
        ("a_b.example.com:65535", None, "a_b.example.com", 65535),
        ("localhost:*", None, "localhost", None),
    ],
)
def test_rules(text, network, domain, port):
    assert Rule.parse(text) == Rule(ipaddress.ip_network(network) if network else None, domain, port)


@pytest.mark.parametrize(
    "text",
    ["", ":", ":443", "*", "*.example.com", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/8:0", "example.com:65536",
     "example.com:http", "example.com:", "example.com:-1", "127.1", "0x7f.1", "2130706433", "256.0.0.1",
     "[::1", "[::1]443", "[::1]:", "example.com/24", "fd00::/8:443:x", "a b", "a..b", "x:" + "9" * 5000,
     "fe80::%/10"],
)  # fmt: skip
def test_malformed_rules_are_one_clear_line(text):
    with pytest.raises(UsageError) as caught:
        Rule.parse(text)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("malformed rule")
