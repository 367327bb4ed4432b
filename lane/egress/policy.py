"""Which targets the server may reach: the operator's rules, and by default only public addresses.

A proxy that dials any address on request opens the network around it: services on loopback, private hosts,
the metadata service of a cloud. The machine's own public addresses are just as dangerous: its firewall
filters traffic from outside, and connections from within bypass it. So only plain global unicast addresses
of other machines pass, unless a rule says otherwise. `ipaddress.is_global` does not know the formats that
embed one address in another (NAT64, 6to4 and others), so the table is written out here. An IPv4-mapped
address is the IPv4 address, for the system as well as here.

The policy judges the address that is then dialled, never a text that another parser may read differently.
The resolver turns `127.1`, `2130706433` and `0x7f.1` into an address before the policy sees them.
"""

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from lane.address import Address, unmapped
from lane.errors import Status, TargetError, UsageError
from lane.net.here import is_here
from lane.net.names import normal_name

_EVERYTHING = ("any", "all")
_LOCAL = ("loopback", "private", "link-local")
"""The kinds of address that `Policy(local=True)` allows."""

_NOT_PUBLIC = tuple(
    (ipaddress.ip_network(text), kind)
    for text, kind in (
        ("0.0.0.0/8", "unspecified"),  # Linux connects 0.0.0.0 to itself
        ("10.0.0.0/8", "private"),
        ("100.64.0.0/10", "carrier-grade NAT"),
        ("127.0.0.0/8", "loopback"),
        ("169.254.0.0/16", "link-local"),  # and the metadata services of clouds
        ("172.16.0.0/12", "private"),
        ("192.0.0.0/24", "reserved"),
        ("192.0.2.0/24", "documentation"),
        ("192.88.99.0/24", "6to4 relay"),
        ("192.168.0.0/16", "private"),
        ("198.18.0.0/15", "benchmarking"),
        ("198.51.100.0/24", "documentation"),
        ("203.0.113.0/24", "documentation"),
        ("224.0.0.0/4", "multicast"),
        ("255.255.255.255/32", "broadcast"),
        ("240.0.0.0/4", "reserved"),
        ("::/128", "unspecified"),
        ("::1/128", "loopback"),
        ("::/96", "IPv4-compatible"),
        ("64:ff9b::/96", "NAT64"),
        ("64:ff9b:1::/48", "NAT64"),
        ("100::/64", "discard-only"),
        ("fc00::/7", "private"),
        ("fe80::/10", "link-local"),
        ("fec0::/10", "site-local"),
        ("ff00::/8", "multicast"),
        ("2001::/32", "Teredo"),
        ("2001::/23", "reserved"),  # ORCHID, benchmarking and other protocols
        ("2001:db8::/32", "documentation"),
        ("2002::/16", "6to4"),
        ("3fff::/20", "documentation"),
    )
)
"""The kinds of address that are not public. The first network that contains an address decides.

From the IANA special-purpose address registries (RFC 6890 and its updates, as of 2025), with the
multicast (RFC 5771, RFC 4291), site-local (RFC 3879) and IPv4-compatible (RFC 4291) blocks.
"""

_GLOBAL_UNICAST = IPv6Network("2000::/3")
_MAPPED = IPv6Network("::ffff:0:0/96")
_LAST_32_BITS = tuple(map(IPv6Network, ("::/96", "64:ff9b::/96", "64:ff9b:1::/48")))
"""IPv6 networks whose addresses end in the IPv4 address that they stand for."""
_LOOPBACK: dict[int, IPv4Address | IPv6Address] = {4: IPv4Address("127.0.0.1"), 6: IPv6Address("::1")}
"""The address, by IP version, that Linux connects to when it is asked for the unspecified address."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Targets that an operator allows or denies: a network or a domain, and a port (None: every port)."""

    network: IPv4Network | IPv6Network | None
    domain: str | None
    port: int | None

    @classmethod
    def parse(cls, text: str) -> "Rule":
        """Read `IP`, `CIDR` or `DOMAIN`, optionally followed by `:PORT` or `:*`.

        IPv6 with a port needs brackets. A domain includes its subdomains. Raises UsageError.
        """
        text = text.strip()
        if text.startswith("*") or text.lower() in _EVERYTHING:
            if text[1:2] == ".":
                raise UsageError(f"malformed rule {text!r}: {text[2:]} stands for its subdomains, too")
            everything = "0.0.0.0/0 and ::/0 are all targets, those in this machine and its networks included"
            raise UsageError(f"malformed rule {text!r}: {everything}")
        place, port = text, "*"
        if text.startswith("["):
            place, bracket, rest = text[1:].partition("]")
            if not bracket or (rest and not rest.startswith(":")):
                raise UsageError(f"malformed rule {text!r}: expected [IPV6]:PORT")
            port = rest[1:] if rest else "*"
        elif text.count(":") == 1:
            place, _, port = text.partition(":")
        number = parse_port(text, port)
        try:
            return cls(_unmapped(ipaddress.ip_network(place)), None, number)
        except ValueError as error:
            # No top-level domain starts with a digit, so this is a malformed address such as 127.1.
            if set(place) & set("/:%") or place.rstrip(".").rpartition(".")[2][:1].isdigit():
                raise UsageError(f"malformed rule {text!r}: {error}") from None
        try:
            domain = normal_name(place)
        except TargetError as error:
            raise UsageError(f"malformed rule {text!r}: {error}") from None
        if not domain.replace("-", "").replace("_", "").replace(".", "").isalnum():
            raise UsageError(f"malformed rule {text!r}: expected CIDR[:PORT] or DOMAIN[:PORT]")
        return cls(None, domain, number)

    def matches(self, name: str, address: IPv4Address | IPv6Address, port: int) -> bool:
        """Whether the rule covers this target. `name`: the requested host, in the form of `normal_name`."""
        if self.port not in (None, port):
            return False
        if self.domain is not None:
            return name == self.domain or name.endswith(f".{self.domain}")
        return self.network is not None and address in self.network


@dataclass(slots=True)
class Policy:
    """The operator's rules on top of the built-in refusal of everything but plain global unicast.

    `deny` is checked first, then `allow`, then the table. An allow rule is an explicit wish: `0.0.0.0/0`
    allows loopback too. A domain rule applies only to requests by that name, whatever the name resolves to. A
    request for an address is judged by the address. `local` is for a server on the user's own machine: it
    also allows loopback, private and link-local addresses, and the machine's public ones.

    The rules may be replaced at any time. Existing connections are not affected.
    """

    allow: Sequence[Rule] = ()
    deny: Sequence[Rule] = ()
    local: bool = False

    def check(self, host: str, address: IPv4Address | IPv6Address, port: int) -> None:
        """Judge one address that `host` resolved to, before it is dialled.

        Raises TargetError: NOT_ALLOWED; HOST_UNREACHABLE for a host that can't be a name; or FAILURE if the
        system lacks the resources to check whether the address is the machine's own. The error text omits the
        address: it would show the client how names resolve in the server's network.
        """
        if isinstance(address, IPv6Address) and address.scope_id is not None:
            # A scope names an interface of this machine. No outsider may choose that.
            raise TargetError(Status.NOT_ALLOWED, "not allowed: an address with a scope")
        name = "" if ":" in host else normal_name(host)  # an IPv6 address belongs to no domain
        address = unmapped(address)
        # Another notation of a denied address must not slip through under a wide allow rule.
        forms = _forms(address) if self.deny else ()
        if any(rule.matches(name, form, port) for rule in self.deny for form in forms):
            raise TargetError(Status.NOT_ALLOWED, f"not allowed: denied by a rule{self._decides('--deny')}")
        if any(rule.matches(name, address, port) for rule in self.allow):
            return
        kind = _kind(address)
        if kind is not None and not (self.local and kind in _LOCAL):
            raise TargetError(Status.NOT_ALLOWED, f"not allowed: {kind} address{self._decides('--allow')}")
        if kind is None and not self.local and is_here(address):
            text = f"not allowed: address of the server itself{self._decides('--allow')}"
            raise TargetError(Status.NOT_ALLOWED, text)

    def _decides(self, option: str) -> str:
        """Who decided, for the error text: the application's user may not know of the server."""
        return "" if self.local else f" (the server's {option})"


def parse_port(rule: str, port: str) -> int | None:
    """Parse the port of a rule; None stands for `*`. Raises UsageError."""
    if port == "*":
        return None
    if not (port.isascii() and port.isdigit() and 0 < int(port[:6]) <= 0xFFFF):
        raise UsageError(f"malformed rule {rule!r}: the port must be 1 to 65535 or *")
    return int(port)


@dataclass(frozen=True, slots=True)
class ListenRule:
    """Where a client may make the server listen: one IP address or every one, and a range of ports."""

    host: str | None
    """The one address, in its compressed form; None: any address, including `0.0.0.0` and `::`."""
    first: int
    last: int

    @classmethod
    def parse(cls, text: str) -> "ListenRule":
        """`*`, `:PORT`, `IP:PORT`, `[IPV6]:PORT`; PORT may also be `FIRST-LAST` or `*`. Raises UsageError."""
        text = text.strip()
        place, colon, ports = text.rpartition(":") if text != "*" else ("", ":", "*")
        first, last = _ports(ports) if colon else (1, 0)
        if first > last:
            raise UsageError(f"malformed rule {text!r}: expected [HOST]:PORT, [HOST]:FIRST-LAST or *")
        if place in ("", "*"):
            return cls(None, first, last)
        bare = place[1:-1] if place.startswith("[") and place.endswith("]") else place
        try:
            address = ipaddress.ip_address(bare)
        except ValueError:
            raise UsageError(f"malformed rule {text!r}: {place!r} is no IP address") from None
        if (bare != place) != (address.version == 6):
            raise UsageError(f"malformed rule {text!r}: brackets are for IPv6, and it needs them")
        return cls(unmapped(address).compressed, first, last)

    def permits(self, where: Address) -> bool:
        """Whether the server may listen there. Port 0 (any free port) needs a rule for all ports."""
        return self.host in (None, where.host) and self.first <= where.port <= self.last


def _ports(text: str) -> tuple[int, int]:
    """The first and the last port of a range; an empty range for a malformed one."""
    if text == "*":
        return 0, 0xFFFF
    first, dash, last = text.partition("-")
    numbers = [
        int(part[:6]) if part.isascii() and part.isdigit() else 0 for part in (first, last if dash else first)
    ]
    return (numbers[0], numbers[1]) if numbers[0] > 0 and numbers[1] <= 0xFFFF else (1, 0)


def _unmapped(network: IPv4Network | IPv6Network) -> IPv4Network | IPv6Network:
    if isinstance(network, IPv6Network) and network.subnet_of(_MAPPED):
        return IPv4Network((int(network.network_address) & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def _kind(address: IPv4Address | IPv6Address) -> str | None:
    """Why the address is not public; None for plain global unicast."""
    for network, kind in _NOT_PUBLIC:
        if address in network:
            return kind
    if isinstance(address, IPv6Address):
        if address not in _GLOBAL_UNICAST:
            return "reserved"
        if _is_isatap(address):
            return "ISATAP"
    return None


def _forms(address: IPv4Address | IPv6Address) -> set[IPv4Address | IPv6Address]:
    """The address, and those that it leads to."""
    forms = {address, *_embedded(address)}
    return forms | {_LOOPBACK[form.version] for form in forms if form.is_unspecified}


def _is_isatap(address: IPv6Address) -> bool:
    """Whether the interface identifier is that of RFC 5214 section 6.1: 0000:5efe or 0200:5efe, then IPv4."""
    return (int(address) >> 32) & 0xFDFFFFFF == 0x5EFE


def _embedded(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address]:
    """The IPv4 addresses that are embedded in an IPv6 address."""
    if isinstance(address, IPv4Address):
        return
    if _is_isatap(address) or any(address in network for network in _LAST_32_BITS):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo  # its server and its client


ANYWHERE = Policy([Rule.parse("0.0.0.0/0"), Rule.parse("::/0")])
"""The policy for direct connections from a client: anywhere that the machine can reach without lane."""
