"""Resolves names for the whole process, from the hosts file, the name servers and the C library.

A name with silent name servers delays only the callers that ask for it. Each look-up is a greenlet of its
own, and ends when its last caller has left. The places for look-ups are shared out among users. Concurrent
requests for one name share one look-up. Answers are cached while they are valid, failures for a short time.
"""

import itertools
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from time import monotonic

import gevent
from dns.rdatatype import RdataType

from lane import census
from lane.errors import Failure, Status, TargetError
from lane.net.dns import AAAA, A, DnsAnswer, NameServers
from lane.net.names import ascii_name, literal
from lane.net.system import CLibrary, ResolvConf, Watched, parse_hosts, parse_sources
from lane.net.user_places import UserPlaces

MAX_ADDRESSES = 16
"""Addresses of one name that are used."""
MOST = 256
"""Look-ups that run at once."""
WAITING = 256
"""Look-ups of one user that wait for a place."""
TIMEOUT = 10.0
"""Seconds before a look-up is given up, including the wait for a place."""
REMEMBERED = 4096
"""Names whose answer is cached. The least recently used one is forgotten first."""
LIFE_MOST = 3600.0
"""The longest time that addresses are cached, in seconds."""
NEGATIVE_LIFE_MOST = 30.0
"""The longest time that a name without addresses is cached, in seconds."""
FAILURE_LIFE = 5.0
"""Seconds that a failed look-up is cached."""
PARTIAL_LIFE = 60.0
"""The longest time that addresses are cached if the other family got no answer in time, in seconds."""
LATE_IPV6 = 0.05
"""Seconds to wait for IPv6 addresses once there are IPv4 ones (RFC 8305 section 3)."""
LATE_IPV4 = 1.0
"""Seconds to wait for IPv4 addresses once there are IPv6 ones.

It is longer, because IPv4 is the fallback if IPv6 does not work.
"""

IpAddress = IPv4Address | IPv6Address
_LOCALHOST: Sequence[IpAddress] = (ip_address("::1"), ip_address("127.0.0.1"))
Outcome = list[IpAddress] | tuple[Status, str]
"""The addresses of a name, or the reason why there are none."""


class _LookUp:
    """A running look-up, and the number of its callers."""

    def __init__(self, greenlet: "gevent.Greenlet[..., Outcome]") -> None:
        self.greenlet = greenlet
        self.waiting = 0


class Resolver:
    """Looks names up as the system is configured to.

    `etc`: the directory of the configuration files. `port`: that of the name servers. `timeout`: seconds per
    look-up.
    """

    def __init__(self, etc: Path = Path("/etc"), port: int = 53, timeout: float = TIMEOUT) -> None:
        self._conf = Watched(etc / "resolv.conf", ResolvConf.parse)
        self._hosts = Watched(etc / "hosts", parse_hosts)
        self._sources = Watched(etc / "nsswitch.conf", parse_sources)
        self._servers = NameServers(port)
        self._c_library = CLibrary()
        self._timeout = timeout
        self._shares = UserPlaces(MOST, WAITING, "names are looked up")
        self._lookups: dict[str, _LookUp] = {}
        self._known: OrderedDict[str, tuple[Outcome, float]] = OrderedDict()  # with expiry times
        self._known_by: ResolvConf | None = None
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"lookups": len(self._lookups), "names": len(self._known)}

    def resolve(self, host: str, user: str = "") -> list[IpAddress]:
        """The 1 to 16 addresses of `host`, IPv6 and IPv4 in turns, IPv6 first (RFC 8305 section 4).

        An IP address, in any notation, is its own answer. `user`: the user that the look-up counts against.
        Raises TargetError: HOST_UNREACHABLE for a name that is unknown or gets no answer, FAILURE if the user
        has too many look-ups under way.
        """
        if address := literal(host):
            return [address]
        name = ascii_name(host)
        bare = name.removesuffix(".")
        if listed := self._hosts.content().get(bare):
            return _interleave(listed)
        if bare == "localhost" or bare.endswith(".localhost"):  # RFC 6761 section 6.3
            return _interleave(_LOCALHOST)
        outcome = self._recall(name) or self._join(name, user)
        if isinstance(outcome, tuple):
            raise TargetError(*outcome)
        return list(outcome)

    def _recall(self, name: str) -> Outcome | None:
        conf = self._conf.content()
        if conf is not self._known_by:  # other servers may know other names
            self._known.clear()
            self._known_by = conf
        outcome, until = self._known.get(name, (None, 0.0))
        if until <= monotonic():
            return None
        self._known.move_to_end(name)
        return outcome

    def _join(self, name: str, user: str) -> Outcome:
        """Wait for the look-up of `name`. The first caller starts it, and the last one to leave ends it."""
        lookup = self._lookups.get(name)
        if lookup is None:
            lookup = self._lookups[name] = _LookUp(gevent.spawn(self._look_up, name, user))
        lookup.waiting += 1
        try:
            outcome: Outcome = lookup.greenlet.get()  # no limit: `_look_up` has one
            return outcome
        finally:
            lookup.waiting -= 1
            if not lookup.waiting:
                lookup.greenlet.kill(block=False)
                if self._lookups.get(name) is lookup:
                    del self._lookups[name]

    def _look_up(self, name: str, user: str) -> Outcome:
        outcome: Outcome
        conf = self._conf.content()
        life = 0.0  # no caching: a look-up that never started tells nothing about the name
        late = TargetError(Status.HOST_UNREACHABLE, "name look-up timed out")
        try:
            with gevent.Timeout(self._timeout, late), self._shares.place(user):
                life = FAILURE_LIFE
                outcome, life = self._find(conf, name)
        except TargetError as error:
            outcome = error.status, str(error)
        if life and conf is self._known_by:
            self._known[name] = outcome, monotonic() + life
            self._known.move_to_end(name)
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        return outcome

    def _find(self, conf: ResolvConf, name: str) -> tuple[Outcome, float]:
        """The outcome, and the seconds that it is valid. Raises TargetError if no source could answer."""
        others = self._sources.content()
        bare = name.removesuffix(".")
        life = NEGATIVE_LIFE_MOST
        exists = False
        failure: Failure[TargetError] | None = None
        # The domain `local` belongs to multicast DNS (RFC 6762 section 3).
        if not (bare.endswith(".local") and any(source.startswith("mdns") for source in others)):
            for candidate in conf.candidates(name):
                try:
                    answer = self._both(conf, candidate)
                except TargetError as error:
                    failure = failure or Failure.of(error)
                    continue
                if answer.addresses:
                    return _interleave(answer.addresses), min(answer.ttl, LIFE_MOST)
                life, exists = min(life, answer.ttl), exists or answer.exists
        if others and (found := self._c_library.look_up(name)):
            return _interleave(found), NEGATIVE_LIFE_MOST
        if failure is not None:
            raise failure.build()
        why = "name has no address" if exists else "name not known"
        return (Status.HOST_UNREACHABLE, why), life

    def _both(self, conf: ResolvConf, name: str) -> DnsAnswer:
        """Query both families at once. Raises TargetError if neither query gave addresses and one failed."""
        four = gevent.spawn(self._ask, conf, name, A)
        six = gevent.spawn(self._ask, conf, name, AAAA) if conf.ipv6 else four
        try:
            (first,) = gevent.wait([six, four], count=1)  # no limit: `_look_up` has one
            slow, patience = (six, LATE_IPV6) if first is four else (four, LATE_IPV4)
            known = isinstance(first.value, DnsAnswer) and first.value.addresses
            slow.join(patience if known else None)  # no limit: `_look_up` has one
        finally:
            six.kill(block=False)
            four.kill(block=False)
        told = [one.value for one in dict.fromkeys((six, four))]
        answers = [one for one in told if isinstance(one, DnsAnswer)]
        if found := tuple(address for one in answers for address in one.addresses):
            life = min(one.ttl for one in answers if one.addresses)
            return DnsAnswer(found, True, life if len(answers) == len(told) else min(life, PARTIAL_LIFE))
        for one in told:
            if isinstance(one, Failure):
                raise one.build()
        return DnsAnswer((), any(one.exists for one in answers), min(one.ttl for one in answers))

    def _ask(self, conf: ResolvConf, name: str, kind: RdataType) -> DnsAnswer | Failure[TargetError]:
        """Query one family. Returns an error as a value, because gevent prints tracebacks of raised ones."""
        try:
            return self._servers.ask(conf, name, kind)
        except TargetError as error:
            return Failure.of(error)


def _interleave(found: Iterable[IpAddress]) -> list[IpAddress]:
    """The addresses without duplicates, IPv6 and IPv4 in turns, otherwise in their given order."""
    unique = dict.fromkeys(found)
    six = (one for one in unique if one.version == 6)
    four = (one for one in unique if one.version == 4)
    pairs = itertools.chain.from_iterable(itertools.zip_longest(six, four))
    return [one for one in pairs if one is not None][:MAX_ADDRESSES]


@cache
def system_resolver() -> Resolver:
    """The resolver of this process. All parts share its cache and its places for look-ups."""
    return Resolver()
