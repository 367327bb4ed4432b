"""Which addresses are the machine's own, at any moment, and whatever the system lets lane ask."""

import errno
import json
import struct
from ipaddress import ip_address

import pytest

from lane.errors import Status, TargetError
from lane.net import here
from lane.net.here import is_here
from lane.testing.harness import outcome
from tests.support.descriptors import no_descriptors
from tests.support.namespaces import in_own_network

CHANGES = """
import json, subprocess, sys, time
from ipaddress import ip_address
from lane.net import here

if sys.argv[1] == "closed":
    here.socket.AF_NETLINK = 999
found, wanted = [], json.loads(sys.argv[2])
HOSTS = "11.0.0.1 ::ffff:11.0.0.1 11.0.0.2 11.0.0.99 2600::1 2600::2 127.0.0.9 ::1 12.0.0.7".split()

def look():
    deadline = time.monotonic() + 30  # the kernel makes the routes of IPv6 addresses when it has time
    while True:
        now = [host for host in HOSTS if here.is_here(ip_address(host))]
        if now == wanted[len(found)] or time.monotonic() > deadline:
            break
        time.sleep(0.01)
    found.append(now)

def ip(command):
    subprocess.run(["ip", *command.split()], check=True)
    look()

ip("link set lo up")
ip("link add one type veth peer name other")
ip("address add 11.0.0.1/24 dev one")
ip("link set one up")
ip("-6 address add 2600::1/64 dev one nodad")
ip("address add 11.0.0.2/24 dev one")
ip("link set other up")
ip("link set one down")
ip("link set one up")
ip("address del 11.0.0.1/24 dev one")
ip("route add local 12.0.0.0/24 dev lo")
ip("link del one")
print(json.dumps(found))
"""
LOOPBACK = ["127.0.0.9", "::1"]
ONE, TWO, SIX = ["11.0.0.1", "::ffff:11.0.0.1"], ["11.0.0.2"], ["2600::1"]


@pytest.fixture(autouse=True)
def _afresh():
    """No socket from a test before, and none for one after."""
    yield
    while here._kernel:
        here._kernel.pop().close()


@pytest.mark.parametrize("netlink", ["open", "closed"])
def test_addresses_that_come_and_go(netlink):
    wanted = [
        LOOPBACK,
        LOOPBACK,
        ONE + LOOPBACK,  # the kernel delivers to an address of an interface that is down
        ONE + LOOPBACK,
        ONE + SIX + LOOPBACK,
        ONE + TWO + SIX + LOOPBACK,
        ONE + TWO + SIX + LOOPBACK,
        ONE + TWO + LOOPBACK,
        ONE + TWO + LOOPBACK,
        LOOPBACK,
        [*LOOPBACK, "12.0.0.7"],
        [*LOOPBACK, "12.0.0.7"],
    ]
    assert json.loads(in_own_network(CHANGES, netlink, json.dumps(wanted))) == wanted


class Netlink:
    """A socket of netlink whose answers are in front of the kernel's own."""

    def __init__(self, *answers):
        self._answers = [*answers]
        self._sock = here.socket.socket(here.socket.AF_NETLINK, here.socket.SOCK_RAW)
        self.send, self.close = self._sock.send, self._sock.close

    def recv(self, *how):
        if self._answers:
            return self._answers.pop(0)
        return self._sock.recv(*how)


def refusal(code, sequence):
    """A message of the kernel: it could not say."""
    return struct.pack("=IHHIIi", 36, 2, 0, sequence, 0, -code) + bytes(16)


OLD = struct.pack("=IHHII", 28, 24, 0, 0, 0) + struct.pack("=BBBBBBBBI", 2, 32, 0, 0, 0, 0, 0, 1, 0)
"""The answer to an earlier question: not here."""


@pytest.mark.parametrize(
    "answers",
    [
        [OLD],
        [OLD] * here.MOST_ANSWERS,
        [b""],
        [OLD[:10]],
        [b"\0" * 100],
    ],
    ids=["old", "many old", "empty", "cut", "zeros"],
)
def test_odd_answers_of_the_kernel(answers):
    here._kernel.append(Netlink(*answers))
    assert is_here(ip_address("127.0.0.1"))


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EPERM])
def test_a_kernel_that_does_not_say(code, monkeypatch):
    monkeypatch.setattr(here, "_sequence", iter((5, 6)))
    for sequence, host, expected in ((5, "127.0.0.1", True), (6, "192.0.2.1", False)):
        made = Netlink(refusal(code, sequence))
        here._kernel.append(made)
        assert is_here(ip_address(host)) is expected
        assert made not in here._kernel


def test_without_a_descriptor_nothing_is_said():
    with no_descriptors():
        error = outcome(is_here, ip_address("127.0.0.1"))
    assert isinstance(error, TargetError)
    assert error.status is Status.FAILURE
    assert is_here(ip_address("127.0.0.1"))


def test_one_descriptor_is_enough():
    is_here(ip_address("127.0.0.1"))
    with no_descriptors():
        assert is_here(ip_address("127.0.0.1"))
        assert not is_here(ip_address("192.0.2.1"))
