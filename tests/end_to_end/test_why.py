"""`lane why` asks real clients over their real sockets."""

import json
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lane.testing.harness import until
from tests.support.namespaces import in_own_network
from tests.support.origin import Origin
from tests.support.processes import TRANSPORTS, Lane, connected, echoes, start_client, start_server


@pytest.fixture
def runtime(tmp_path):
    """The variable that says where sockets are by default."""
    folder = tmp_path / "run"
    folder.mkdir(mode=0o700)
    return {"XDG_RUNTIME_DIR": str(folder)}


def client(tmp_path, transport, *options, env):
    return Lane(tmp_path, "--transport", transport, "--listen", "127.0.0.1:0", *options, env=env)


def test_two_clients_say_what_carries_each(tmp_path, run_lane, runtime):
    with (
        Origin() as origin,
        client(tmp_path, "quic", env=runtime) as quic,
        client(tmp_path, "tls", env=runtime) as tls,
    ):
        for lane, name in ((quic.ready(), "quic"), (tls.ready(), "tls")):
            listen = "{}:{}".format(*lane.address)
            with connected(lane.address, origin.echo) as sock:
                assert echoes(sock)
                result = run_lane("why", "--listen", listen, env=runtime)
                assert (result.returncode, result.stderr) == (0, "")
                assert re.match(rf"carried by {name} since .*: --transport is {name}\n", result.stdout)
                assert re.search(rf"(?m)^{name} +carries ", result.stdout)
                result = run_lane("why", "--listen", listen, "--json", env=runtime)
                assert (result.returncode, result.stderr) == (0, "")
                snapshot = json.loads(result.stdout)
                assert (snapshot["choice"], snapshot["sessions"], snapshot["changes"]) == (name, 1, [])
                (figures,) = snapshot["lanes"]
                assert (figures["name"], figures["alive"], figures["carries"]) == (name, True, True)
                assert snapshot["since"] <= snapshot["time"]
        assert (quic.stop(), tls.stop()) == (0, 0)
    assert list((tmp_path / "run" / "lane").iterdir()) == []
    result = run_lane("why", "--listen", listen, env=runtime)
    assert result.returncode == 69
    assert re.fullmatch(r"lane: no client answers at .*\n", result.stderr)


INSIDE = f"import sys, {__name__} as it; it.ask_inside(*sys.argv[1:])"


def test_each_network_has_its_own_client(tmp_path, run_lane, runtime):
    """Two that listen on one address in two network namespaces, and share all files."""
    with client(tmp_path, "quic", env=runtime) as outside:
        listen = "{}:{}".format(*outside.ready().address)
        inside = json.loads(in_own_network(INSIDE, tmp_path, listen, runtime["XDG_RUNTIME_DIR"]))
        result = run_lane("why", "--listen", listen, "--json", env=runtime)
        assert json.loads(result.stdout)["choice"] == "quic"
    lacking, choice = inside
    assert re.fullmatch(rf"lane: no client answers at .*, beside client-{listen}-\w+\.sock\n", lacking)
    assert choice == "tls"


def ask_inside(folder, listen, runtime):
    """What `lane why` says before there is a client here, and what carries one, as JSON."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    folder, env = Path(folder, "inside"), {"XDG_RUNTIME_DIR": runtime}
    ask = ("why", "--listen", listen, "--json")
    with Lane(folder, *ask, env=env) as lane:
        assert lane.ended() == 69
        lacking = lane.stderr
    with Lane(folder, "--transport", "tls", "--listen", listen, env=env) as lane:
        lane.ready()
        with Lane(folder, *ask, env=env) as why:
            assert why.ended() == 0, why.describe()
            print(json.dumps([lacking, json.loads(why.stdout)["choice"]]))


def test_a_server_that_is_not_reached_is_told_until_it_answers(tmp_path, run_lane, runtime):
    with start_server(tmp_path / "server") as server:
        address = "{}:{}".format(*server.address)
        assert server.stop() == 0
    with (
        Origin() as origin,
        start_client(tmp_path / "client", "tls", server.link, "--no-check", env=runtime) as lane,
    ):
        ask = ("why", "--listen", "{}:{}".format(*lane.address))
        with pytest.raises(ConnectionError):
            connected(lane.address, origin.echo)
        lines = run_lane(*ask, env=runtime).stdout.splitlines()
        assert re.fullmatch(rf"not reached since [\d:]+ \(\d+ s\): .*{address}.* \(tls\)", lines[0])
        assert re.fullmatch(rf"tls: .*{address}.*", lines[-1])
        with (
            start_server(tmp_path / "server", listen=address),
            connected(lane.address, origin.echo) as sock,
        ):
            assert echoes(sock)
            assert run_lane(*ask, env=runtime).stdout.startswith("carried by tls")


def test_to_follow_until_an_interrupt_or_the_end_of_the_client(tmp_path, runtime):
    with client(tmp_path, "tls", "--control", "c.sock", env=runtime) as lane:
        lane.ready()
        arguments = ("why", "--control", "c.sock", "--follow")
        with Lane(tmp_path, *arguments) as one, Lane(tmp_path, *arguments, "--json") as other:
            one.wait_for(r"carried by tls .*")
            one.wait_for(r"[\d:]+  tls  0.0 Mbit/s  loss -  round trip .*")
            other.wait_for(r"{.*}\n{.*}")
            assert one.stop(signal.SIGINT) == 0
            assert one.stderr == ""
            assert lane.stop() == 0
            assert other.ended() == 69
            assert other.stderr == "lane: the client at c.sock has ended\n"


def test_a_reader_that_is_gone_is_quiet(tmp_path, runtime):
    with client(tmp_path, "tls", "--control", "c.sock", env=runtime) as lane:
        lane.ready()
        argv = [sys.executable, "-m", "lane", "why", "--control", "c.sock", "--follow"]
        with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as follower:
            assert follower.stdout.readline().startswith(b"carried by tls")
            follower.stdout.close()
            assert follower.wait(30) == 1
            assert follower.stderr.read() == b""


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_client_goes_on_without_its_default_socket(tmp_path, transport):
    env = {"XDG_RUNTIME_DIR": str(tmp_path / "missing")}
    with client(tmp_path, transport, env=env) as lane:
        lane.ready()
        until(
            lambda: "WARNING lane.control: lane why will not work: cannot listen on" in lane.stderr,
            lane.describe,
        )
        assert lane.stop() == 0
        assert lane.stderr.count("lane why") == 1


def test_without_a_socket(tmp_path, runtime):
    with client(tmp_path, "tls", "--control", "off", env=runtime) as lane:
        lane.ready()
        assert list((tmp_path / "run").iterdir()) == []
        assert lane.stop() == 0


def test_a_socket_in_use_that_was_asked_for_is_78(tmp_path, run_lane, runtime):
    with client(tmp_path, "tls", "--control", "c.sock", env=runtime) as lane:
        lane.ready()
        result = run_lane("--listen", "127.0.0.1:0", "--control", "c.sock")
        line = r"lane: cannot listen on c\.sock: another process listens there\n"
        assert result.returncode == 78
        assert re.search(rf"(?m)^{line}", result.stderr)
        lane.kill()
        with client(tmp_path, "tls", "--control", "c.sock", env=runtime) as after:
            assert after.ready().stop() == 0


def test_both_transports_are_known_to_who_chooses_between_them(tmp_path, run_lane, runtime):
    with Origin() as origin, client(tmp_path, "auto", env=runtime) as lane:
        listen = "{}:{}".format(*lane.ready().address)

        def lanes():
            result = run_lane("why", "--listen", listen, "--json", env=runtime)
            return {row["name"]: row for row in json.loads(result.stdout)["lanes"]}

        with connected(lane.address, origin.echo) as sock:
            assert echoes(sock)
            until(lambda: all(row["alive"] for row in lanes().values()), lane.describe)
        assert {name: row["carries"] for name, row in lanes().items()} == {"tls": True, "quic": False}
        assert lane.stop() == 0


@pytest.mark.skipif(not socket.has_ipv6, reason="needs IPv6")
def test_a_client_on_localhost_says_where_it_listens_and_is_found(tmp_path, run_lane, runtime):
    with Lane(tmp_path, "--transport", "tls", "--listen", "localhost:0", env=runtime) as lane:
        places = lane.wait_for(r"listening on (.+) \(SOCKS5 and HTTP, .*")[1].split(" and ")
        (port,) = {place.rpartition(":")[2] for place in places}
        assert {place.rpartition(":")[0] for place in places} <= {"127.0.0.1", "[::1]"}
        for listen in "localhost", "127.0.0.1":
            result = run_lane("why", "--listen", f"{listen}:{port}", env=runtime)
            assert (result.returncode, result.stderr) == (0, "")
        assert lane.stop() == 0
