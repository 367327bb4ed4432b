"""Host names as the DNS has them, and addresses in whatever form they come.

Names are compared by rules and looked up in one form, made here alone: a second way to make it would be a
way past a rule. It is the form that browsers send: UTS 46 without the transitional mapping of IDNA 2003, by
which `straße` was another name, `strasse`. Labels that are ASCII stay as they are: the DNS has names that no
host may have, such as `_dmarc`.
"""

import ipaddress
import socket
from ipaddress import IPv4Address, IPv6Address

import idna

from lane.address import unmapped
from lane.errors import Status, TargetError

MAX_LABEL, MAX_NAME = 63, 253
"""Octets of a label and of a name, without a final dot (RFC 1035 section 2.3.4)."""
_FORBIDDEN = frozenset(map(chr, range(0x21))) | frozenset("#%/:<>?@[\\]^|\x7f")
"""What no host name has: the forbidden domain code points of the URL standard."""
_JOINERS = "\u200c\u200d"


def ascii_name(host: str) -> str:
    """`host` in the DNS's form: A-labels (RFC 5890), lower case; a final dot stays.

    Raises TargetError (HOST_UNREACHABLE) for what can't be a name.
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
    """The form in which names are compared: as `ascii_name`, without a final dot. Raises TargetError."""
    return ascii_name(host).removesuffix(".")


def literal(host: str) -> IPv4Address | IPv6Address | None:
    """The address that `host` is, in any form that a resolver takes for one (`127.1`); None for a name.

    An IPv4 address that is written as an IPv6 one is that IPv4 address.
    """
    if host.isascii() and ":" not in host and not host.rstrip(".").rpartition(".")[2][:1].isdigit():
        return None  # most names, at little cost
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
    """UTS 46 section 4.1 as browsers apply it: with all symbols of its table, in IDNA 2008 or not."""
    idna.check_nfc(label)
    idna.check_initial_combiner(label)
    idna.check_bidi(label)
    for at, character in enumerate(label):
        if character in _JOINERS and not idna.valid_contextj(label, at):
            raise idna.InvalidCodepointContext(f"a joiner that joins nothing in {label!r}")
    return f"xn--{label.encode('punycode').decode()}"
