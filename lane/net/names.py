"""Host names in the form that the DNS uses, and IP addresses in any notation.

Rules compare names in one form, and the resolver looks up the same form. Only this module makes it: a second
implementation could differ, and so let a name bypass a rule. The form is the one that browsers send: UTS 46
without the transitional mapping of IDNA 2003, which would turn `straße` into another name, `strasse`. ASCII
labels stay as they are: the DNS has names that no host may have, such as `_dmarc`.
"""

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

import idna

from lane.address import KNOWN, unmapped
from lane.errors import Status, TargetError
from lane.memo import remembered

MAX_LABEL = 63
"""The longest label, in octets (RFC 1035 section 2.3.4)."""
MAX_NAME = 253
"""The longest name, in octets, without a final dot (RFC 1035 section 2.3.4)."""
_FORBIDDEN = frozenset(map(chr, range(0x21))) | frozenset("#%/:<>?@[\\]^|\x7f")
"""Characters that no host name has: the forbidden domain code points of the URL standard."""
_JOINERS = "\u200c\u200d"


@remembered(KNOWN)  # each connection asks several times
def ascii_name(host: str) -> str:
    """`host` in the form of the DNS: A-labels (RFC 5890) in lower case. A final dot stays.

    Raises TargetError (HOST_UNREACHABLE) for a text that can't be a name.
    """
    try:
        name = host if host.isascii() else idna.uts46_remap(host, std3_rules=False)
        labels = [label if label.isascii() else _a_label(label) for label in name.lower().split(".")]
    except UnicodeError as error:  # IDNAError is one
        raise _refusal(str(error)) from None
    name = ".".join(labels)
    if not labels[-1]:
        labels.pop()
    if not all(labels) or not labels:
        raise _refusal("an empty label" if labels else "it is empty")
    if max(map(len, labels)) > MAX_LABEL or len(name.removesuffix(".")) > MAX_NAME:
        raise _refusal("too long")
    if not _FORBIDDEN.isdisjoint(name):
        raise _refusal("a character that no name has")
    return name


def normal_name(host: str) -> str:
    """The form for comparing names: that of `ascii_name`, without a final dot. Raises TargetError."""
    return ascii_name(host).removesuffix(".")


@remembered(KNOWN)
def literal(host: str) -> IPv4Address | IPv6Address | None:
    """Parse `host` as an IP address, in any notation that resolvers accept (`127.1`); None for a name.

    An IPv4-mapped IPv6 address gives the IPv4 address.
    """
    if host.isascii() and ":" not in host and not host.rstrip(".").rpartition(".")[2][:1].isdigit():
        return None  # a fast path for most names
    try:
        return unmapped(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        name = normal_name(host)
    except TargetError:
        return None
    if not name.rpartition(".")[2][0].isdigit():
        return None
    try:
        return IPv4Address(socket.inet_aton(name))
    except OSError:
        return None


def _refusal(why: str) -> TargetError:
    return TargetError(Status.HOST_UNREACHABLE, f"not a host name: {why}")


def _a_label(label: str) -> str:
    """The A-label by UTS 46 section 4.1, as browsers apply it: with all symbols, in IDNA 2008 or not."""
    idna.check_nfc(label)
    idna.check_initial_combiner(label)
    idna.check_bidi(label)
    for at, character in enumerate(label):
        if character in _JOINERS and not idna.valid_contextj(label, at):
            raise idna.InvalidCodepointContext(f"a joiner that joins nothing in {label!r}")
    return f"xn--{label.encode('punycode').decode()}"
