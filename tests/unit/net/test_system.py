"""What the system's files and its C library say of names."""

import socket as native
from ipaddress import ip_address

import pytest

from lane.errors import Status
from lane.net import system
from lane.net.resolver import Resolver
from lane.testing.harness import outcome
from tests.support.descriptors import no_descriptors
from tests.support.lookups import failure, found
from tests.support.names import write_etc

# The file with the name servers and the search domains


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


def test_without_a_file_the_machine_itself_is_asked(tmp_path, server):
    server.zones["a.test"] = ["A 192.0.2.1"]
    assert found(Resolver(tmp_path / "nowhere", server.port), "a.test") == ["192.0.2.1"]


def test_another_file_means_other_servers_and_nothing_that_was_known(make, server, second, tmp_path):
    server.zones["a.test"] = ["A 192.0.2.1"]
    resolver = make()
    assert found(resolver, "a.test") == ["192.0.2.1"]
    write_etc(tmp_path, servers=("127.0.0.2",))
    assert found(resolver, "a.test") == ["192.0.2.2"]


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
