"""A server's public addresses are no way past its firewall: real ones, in network namespaces."""

import json
import socket
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path

import pytest

from lane.testing.harness import until
from tests.support.namespaces import in_own_network
from tests.support.processes import TRANSPORTS, echoes, socks5, start_client, start_server
from tests.support.udp_applications import Associated

PORT, ALLOWED = 8080, 8081
OWN = ("11.0.0.1", "11.0.0.2", "2600::1", "::ffff:11.0.0.1")
LATER = "11.0.0.7"
OTHERS = ("11.0.0.9", "2600::9")
NOT_ALLOWED = 2
CALL = f"import sys, {__name__} as it; getattr(it, sys.argv[1])(*sys.argv[2:])"


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_servers_own_addresses_are_refused(tmp_path, transport):
    assert json.loads(in_own_network(CALL, "machine", tmp_path, transport)) == {
        "own addresses": [NOT_ALLOWED] * len(OWN),
        "lane's own port": NOT_ALLOWED,
        "allowed": 0,
        "others": [0, 0],
        "of somebody else, then its own, then somebody else's again": [0, NOT_ALLOWED, 0],
        "packets": "refused",
    }


def machine(folder, transport):
    """What a client gets of targets, through a server on a machine with addresses, as JSON."""
    with ExitStack() as stack:
        other = stack.enter_context(_echoing("unshare", "--net"))
        stack.callback(other.kill)
        stack.callback(stack.enter_context(_echoing()).kill)
        inside = f"nsenter --target {other.pid} --net ip"
        for command in (
            "ip link set lo up",
            f"ip link add one type veth peer name two netns {other.pid}",
            *(f"ip address add {host}/24 dev one" for host in OWN[:2]),
            f"ip address add {OWN[2]}/64 dev one nodad",
            "ip link set one up",
            f"{inside} address add {OTHERS[0]}/24 dev two",
            f"{inside} address add {LATER}/24 dev two",
            f"{inside} address add {OTHERS[1]}/64 dev two nodad",
            f"{inside} link set two up",
        ):
            subprocess.run(command.split(), check=True)
        rule = f"127.0.0.0/8,{OWN[0]}:{ALLOWED}"
        server = stack.enter_context(start_server(Path(folder, "s"), listen=f"{OWN[0]}:0", allow=rule))
        options = (server.link, "--fast-open", "off")  # a refusal is to come before the answer
        client = stack.enter_context(start_client(Path(folder, "c"), transport, *options))
        print(json.dumps(_ask(server, client.address)))


def _ask(server, proxy):
    def code(host, port=PORT):
        sock, found = socks5(proxy, host, port)
        with sock:
            assert found or echoes(sock)
        return found

    def move(what):
        subprocess.run(["ip", "address", what, f"{LATER}/32", "dev", "lo"], check=True)
        return code(LATER)

    return {
        "own addresses": [code(host) for host in OWN],
        "lane's own port": code(OWN[0], server.address[1]),
        "allowed": code(OWN[0], ALLOWED),
        "others": [code(host) for host in OTHERS],
        "of somebody else, then its own, then somebody else's again": [code(LATER), move("add"), move("del")],
        "packets": _send(server, proxy),
    }


def _send(server, proxy):
    with Associated(proxy) as app:
        for target in [*((host, PORT) for host in OTHERS), (OWN[0], ALLOWED)]:
            assert app.ask(target, b"hello") == (target, b"hello")
        for host in OWN[:3]:
            app.send((host, PORT), b"hello")
            where = f"[{host}]" if ":" in host else host
            said = f"no packets to {where}:{PORT}: not allowed: address of the server itself"
            until(lambda said=said: said in server.stderr, server.describe)
    return "refused"


def _echoing(*prefix):
    process = subprocess.Popen([*prefix, sys.executable, "-c", CALL, "echo"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    return process


def echo():
    """Say back what comes to both ports, by TCP and UDP, until the process is killed."""
    for port in (PORT, ALLOWED):
        for kind, serve in ((socket.SOCK_STREAM, _serve), (socket.SOCK_DGRAM, _return)):
            sock = socket.socket(socket.AF_INET6, kind)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.bind(("::", port))
            threading.Thread(target=serve, args=(sock,)).start()
    print("ready", flush=True)


def _serve(listener):
    listener.listen()
    while True:
        with listener.accept()[0] as sock:
            sock.sendall(sock.recv(100))


def _return(sock):
    while True:
        sock.sendto(*sock.recvfrom(100))
