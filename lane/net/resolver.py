"""Names to addresses: what the hosts file, the name servers and the C library know, for the whole process.

A name whose servers are silent costs nobody but who asks for it: each look-up is a greenlet of its own, the
places for them are shared out among users, and it ends when nobody waits for it any more. However many ask
for one name, it is looked up once. Answers are kept for as long as they hold, failures shortly.
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
from lane.net.shares import Shares
from lane.net.system import CLibrary, ResolvConf, Watched, parse_hosts, parse_sources

MAX_ADDRESSES = 16
"""Addresses of one name that are used."""
MOST, WAITING = 256, 256
"""Names that are looked up at once, and those of one user that wait until they may be."""
TIMEOUT = 10.0
"""Seconds until a look-up is given up, the wait for its turn included."""
REMEMBERED = 4096
"""Names whose answer is kept: the one that was not used for longest is forgotten first."""
LIFE_MOST, NEGATIVE_LIFE_MOST, FAILURE_LIFE = 3600.0, 30.0, 5.0
"""Seconds that an answer is kept at most: addresses, that there are none, that nobody could tell."""
PARTIAL_LIFE = 60.0
"""Seconds for the addresses of one family alone, where the other one was not told in time."""
LATE_IPV6, LATE_IPV4 = 0.05, 1.0
"""Seconds that one family is waited for once there are addresses of the other (RFC 8305 section 3). There
is nothing to fall back on without IPv4, so that has longer."""

IpAddress = IPv4Address | IPv6Address
_LOCALHOST: Sequence[IpAddress] = (ip_address("::1"), ip_address("127.0.0.1"))
Outcome = list[IpAddress] | tuple[Status, str]
"""The addresses of a name, or why there are none."""


class _LookUp:
    """One that is under way, and how many wait for it."""

    def __init__(self, greenlet: "gevent.Greenlet[..., Outcome]") -> None:
        self.greenlet = greenlet
        self.waiting = 0


class Resolver:
    """Looks names up as the system is set up to. `etc` has its files, `port` is that of its name servers."""

    def __init__(self, etc: Path = Path("/etc"), port: int = 53, timeout: float = TIMEOUT) -> None:
        self._conf = Watched(etc / "resolv.conf", ResolvConf.parse)
        self._hosts = Watched(etc / "hosts", parse_hosts)
        self._sources = Watched(etc / "nsswitch.conf", parse_sources)
        self._servers = NameServers(port)
        self._c_library = CLibrary()
        self._timeout = timeout
        self._shares = Shares(MOST, WAITING, "names are looked up")
        self._lookups: dict[str, _LookUp] = {}
        self._known: OrderedDict[str, tuple[Outcome, float]] = OrderedDict()  # and until when
        self._known_by: ResolvConf | None = None
        census.register(self)

    def census(self) -> dict[str, int]:
        """See `lane.census`."""
        return {"lookups": len(self._lookups), "names": len(self._known)}

    def resolve(self, host: str, user: str = "") -> list[IpAddress]:
        """The addresses of `host`, families taking turns, IPv6 first (RFC 8305 section 4); 1 to 16 of them.

        An IP address, in any form, is its own answer. `user`: whom the look-up is counted to.
        Raises TargetError: HOST_UNREACHABLE for a name that is not known or not answered, FAILURE when the
        user has too many look-ups under way.
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
        """Wait for the look-up of `name`, which begins with the first who waits and ends with the last."""
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
        life = 0.0  # that it was not even begun says nothing of the name
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
        """The outcome, and how many seconds it holds. Raises TargetError where nobody could tell."""
        others = self._sources.content()
        bare = name.removesuffix(".")
        life = NEGATIVE_LIFE_MOST
        exists = False
        failure: Failure[TargetError] | None = None
        # Multicast DNS has that domain for itself (RFC 6762 section 3).
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
        """The addresses of both families, asked for at once. Raises TargetError where neither was told."""
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
        """Gives its error as a value: gevent prints a traceback of one that is raised."""
        try:
            return self._servers.ask(conf, name, kind)
        except TargetError as error:
            return Failure.of(error)


def _interleave(found: Iterable[IpAddress]) -> list[IpAddress]:
    """Each address once, IPv6 and IPv4 in turns, otherwise in their order."""
    unique = dict.fromkeys(found)
    six = (one for one in unique if one.version == 6)
    four = (one for one in unique if one.version == 4)
    pairs = itertools.chain.from_iterable(itertools.zip_longest(six, four))
    return [one for one in pairs if one is not None][:MAX_ADDRESSES]


@cache
def system_resolver() -> Resolver:
    """The one of this process: all parts of it share what is known, and the places for look-ups."""
    return Resolver()
