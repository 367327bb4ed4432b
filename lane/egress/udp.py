"""UDP to targets: the sockets of one association, and the filter for incoming packets.

Each packet has a target of its own, and the policy judges every target. A name is looked up once and
remembered for a while, since most packets go to the same target as the one before. An incoming packet is
delivered only if its address was sent to before (address-dependent filtering, RFC 4787 section 5), so that
strangers can't use the open port. The application may ask to hear from anyone instead.
"""

import ipaddress
import logging
import socket
from collections import OrderedDict, deque
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address
from time import monotonic
from typing import Any

import gevent

from lane.address import Address
from lane.budget import Budget
from lane.egress.policy import Policy
from lane.errors import LaneError, Status, TargetError
from lane.fair import this_round
from lane.net.own import UDP, refuse_own
from lane.net.resolver import Resolver
from lane.net.sockets import own_address
from lane.net.udp import Buffer, UdpSocket

REMEMBERED = 4096
"""Targets, and peer addresses, that one association remembers. The least recently used is forgotten first."""
UNPAID = 64
"""Entries of a table that are not counted against the user's share of memory."""
ENTRY = 400
"""Bytes that each further entry counts for."""
NAME_LIFE = 60.0
"""Seconds that a looked-up address is used for its name."""
REFUSAL_LIFE = 5.0
"""Seconds before an unreachable or refused target is tried again."""
LOOKUPS = 64
"""Names that one association looks up at once."""
WAITING = 16
"""Packets that wait for each look-up."""
JUDGED = 1024
"""Targets without a name that are judged at once, if others than the policy have a say."""

_V4, _V6 = int(socket.AF_INET), int(socket.AF_INET6)  # an enum's members take long to hash

log = logging.getLogger("lane.egress")

Where = tuple[str, int]


class UdpEgress:
    """The sockets of one association. `authorize(target)` may wait, and raises TargetError to refuse it.

    `user`: the user that look-ups are counted against; the memory of its tables counts against `share(user)`.
    `anyone`: also accept packets from addresses to which nothing was sent. `frozen`: the value of `freeze`
    in another process, from which it goes on.
    """

    def __init__(
        self,
        policy: Policy,
        resolver: Resolver,
        authorize: Callable[[Address], None] | None,
        *,
        user: str = "",
        anyone: bool,
        share: Callable[[str], Budget] | None = None,
        frozen: tuple[dict[str, Any], list[int]] | None = None,
    ) -> None:
        self.deliver: Callable[[Address, Buffer], None] = lambda source, payload: None
        """Called with the source and the payload of each incoming packet. It must not block."""
        self.dropped = 0
        """Packets that were not sent or not delivered."""
        self._policy = policy
        self._resolver = resolver
        self._authorize = authorize
        self._user = user
        self._anyone = anyone
        self._targets: OrderedDict[Address, tuple[Where | None, float]] = OrderedDict()  # with expiry times
        self._lookups: dict[Address, deque[bytes]] = {}
        self._asking: dict[Address, Any] = {}  # the greenlets of the look-ups
        self._peers: OrderedDict[str, bool] = OrderedDict()  # whether packets from an address are accepted
        self._sockets: dict[int, UdpSocket] = {}
        self._budget = share(user) if share else None
        self._paid = 0  # bytes taken from the user's share
        self._closed = False
        self._round = this_round()
        if frozen is not None:
            self._thaw(*frozen)

    def freeze(self) -> tuple[dict[str, Any], list[int]]:
        """What another process needs to go on, as a plain value, and descriptors, which are the caller's now.

        It is closed here. What waits in the kernel is read there; packets that wait for a look-up are lost.
        """
        state = {
            "anyone": self._anyone,
            "peers": [*self._peers.items()],
            "families": [int(family) for family in self._sockets],
        }
        descriptors = [sock.detach() for sock in self._sockets.values()]
        self._sockets.clear()
        self.close()
        return state, descriptors

    def _thaw(self, state: dict[str, Any], descriptors: list[int]) -> None:
        for ip, accepted in state["peers"]:
            self._remember(self._peers, ip, accepted)
        for family, descriptor in zip(state["families"], descriptors, strict=True):
            self._use(family, UdpSocket(socket.socket(fileno=descriptor)))

    def send(self, target: Address, payload: Buffer) -> None:
        """Send one packet. Never blocks. A packet that can't be sent is dropped and counted."""
        known = self._targets.get(target)
        if known is not None and known[1] > self._round.began:
            self._transmit(known[0], payload)
        elif target in self._lookups:
            self._wait(self._lookups[target], payload)
        elif self._closed:
            self.dropped += 1
        elif _is_ip(target.host):
            if self._authorize is None:
                self._transmit(self._find(target), payload)
            else:
                self._ask(target, payload, JUDGED)
        else:
            self._ask(target, payload, LOOKUPS)

    def _ask(self, target: Address, payload: Buffer, most: int) -> None:
        """Find out where `target` is, in a greenlet, unless `most` targets wait for that."""
        if len(self._lookups) >= most:
            self.dropped += 1
            return
        waiting = self._lookups[target] = deque()
        self._wait(waiting, payload)
        self._asking[target] = gevent.spawn(self._look_up, target)

    def close(self) -> None:
        """Close the sockets. Idempotent."""
        self._closed = True
        for greenlet in self._asking.values():
            greenlet.kill(block=False)
        for sock in self._sockets.values():
            sock.close()
        self._asking.clear()
        self._lookups.clear()
        self._sockets.clear()
        self._targets.clear()
        self._peers.clear()
        self._give_back(self._paid)

    def _pay(self, size: int) -> bool:
        """Take `size` bytes from the user's share. Return whether the share had room."""
        if self._closed or (self._budget is not None and not self._budget.take(size)):
            return False
        self._paid += size
        return True

    def _give_back(self, size: int) -> None:
        size = min(size, self._paid)
        self._paid -= size
        if self._budget is not None:
            self._budget.give(size)

    def _wait(self, waiting: deque[bytes], payload: Buffer) -> None:
        if not self._pay(len(payload)):
            self.dropped += 1
            return
        waiting.append(bytes(payload))
        if len(waiting) > WAITING:
            self._give_back(len(waiting.popleft()))
            self.dropped += 1

    def _look_up(self, target: Address) -> None:
        where = self._find(target)
        self._asking.pop(target, None)
        for payload in self._lookups.pop(target):
            self._give_back(len(payload))
            self._transmit(where, payload)

    def _find(self, target: Address) -> Where | None:
        """The address for packets to `target`, remembered for a while; None if there is none."""
        where: Where | None = None
        life = REFUSAL_LIFE
        try:
            if target.port == 0:
                raise TargetError(Status.NOT_ALLOWED, "not allowed: port 0")
            if self._authorize is not None:
                self._authorize(target)
            found = self._resolver.resolve(target.host, self._user)
            # IPv4 first: packets can't race over both families, and IPv6 may not work.
            for address in sorted(found, key=lambda one: one.version):
                if self._passes(target, address) and _has_route(address):
                    where, life = (str(address), target.port), NAME_LIFE
                    break
        except LaneError as error:
            log.debug("no packets to %s: %s", target, error)
        except Exception:
            log.exception("a plugin failed to judge a target")
        self._remember(self._targets, target, (where, monotonic() + life))
        if where is not None:
            self._remember(self._peers, where[0], True)
        return where

    def _passes(self, target: Address, address: IPv4Address | IPv6Address) -> bool:
        try:
            self._policy.check(target.host, address, target.port)
            refuse_own(UDP, address, target.port)
        except TargetError as error:
            log.debug("no packets to %s: %s", target, error)
            return False
        return True

    def _transmit(self, where: Where | None, payload: Buffer) -> None:
        if where is None or self._closed:
            self.dropped += 1
            return
        ip, family = where[0], _V6 if ":" in where[0] else _V4
        sock = self._sockets.get(family) or self._opened(family)
        if ip in self._peers:
            self._peers.move_to_end(ip)
        self.dropped += sock is None or not sock.send(payload, where)

    def _opened(self, family: int) -> UdpSocket | None:
        """The socket of `family`, opened now; None if the system has no socket to give."""
        found = _open(family)
        if found is not None:
            self._use(family, found)
        return found

    def _use(self, family: int, sock: UdpSocket) -> None:
        self._sockets[family] = sock
        sock.receive("the packets of targets", self._take)

    def _take(self, payload: bytes, where: tuple[Any, ...]) -> None:
        if self._peers.get(where[0]) or self._may_answer(where[0], where[1]):
            self.deliver(Address(where[0], where[1]), payload)
        else:
            self.dropped += 1

    def _remember(self, table: OrderedDict[Any, Any], key: Any, value: Any) -> None:
        """Add an entry as the newest. The oldest makes room when the table or the user's share is full."""
        if self._closed:
            return
        full = len(table) >= REMEMBERED
        if key not in table and (full or (len(table) >= UNPAID and not self._pay(ENTRY))):
            table.popitem(last=False)
        table[key] = value
        table.move_to_end(key)

    def _may_answer(self, ip: str, port: int) -> bool:
        allowed = self._peers.get(ip)
        if allowed is None and self._anyone:
            allowed = self._passes(Address(ip, port), ipaddress.ip_address(ip))
            self._remember(self._peers, ip, allowed)
        return bool(allowed)


def _open(family: int) -> UdpSocket | None:
    try:
        return UdpSocket.open(family)
    except OSError:
        return None


def _has_route(address: IPv4Address | IPv6Address) -> bool:
    """Whether the system has a route to the address."""
    try:
        own_address(address)
    except OSError:  # no route, or no free descriptor to find out
        return False
    return True


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
