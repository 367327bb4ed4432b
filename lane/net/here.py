"""Whether an address is this machine's own now. Connections to such an address bypass the machine's firewall.

On Linux, the kernel is asked how it would route a packet (RTM_GETROUTE of rtnetlink(7)). The question takes a
few microseconds. It covers everything that is delivered locally: addresses of every interface, and networks
routed to loopback. It is always up to date, since there is no cached list. On other systems, or if this
process may not use netlink, an address is the machine's own if a socket can be bound to it.
"""

import errno
import os
import socket
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from itertools import count
from typing import Any

from lane.address import unmapped
from lane.net.failures import target_error
from lane.net.sockets import family_of

_HEADER = struct.Struct("=IHHII")
"""struct nlmsghdr of linux/netlink.h: length, type, flags, sequence number, port."""
_ROUTE = struct.Struct("=BBBBBBBBI")
"""struct rtmsg of linux/rtnetlink.h: family, bits of the destination, five others, type, flags."""
_ATTRIBUTE = struct.Struct("=HH")
"""struct rtattr of linux/rtnetlink.h: length, type."""
_REQUEST, _ERROR, _NEWROUTE, _GETROUTE, _DESTINATION = 1, 2, 24, 26, 1
_TO_US = (2, 4)
"""RTN_LOCAL and RTN_ANYCAST."""
_NO_WAY = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL)
"""The errors for a destination without a route, or with an `unreachable`, `prohibit` or `blackhole` one."""
_NOT_OURS = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.ENODEV, errno.EINVAL)
"""The kernel's errors for an address that can't be bound. EINVAL: link-local without a scope."""
_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS)
MOST_ANSWERS = 16
"""Messages that are read to find the reply. Others may be left over from a failed request."""

_sequence = count(1)
_kernel: list[Any] = []  # the netlink socket, once it is open


def is_here(address: IPv4Address | IPv6Address) -> bool:
    """Whether packets to `address` are delivered to this machine. Ignores the scope. Never blocks.

    Raises TargetError if the system lacks the descriptor or memory to find out.
    """
    address = unmapped(ip_address(address.packed))
    try:
        return _ask_kernel(address)
    except (OSError, AttributeError, struct.error):
        while _kernel:
            _kernel.pop().close()
    return _can_be_bound(address)


def _ask_kernel(address: IPv4Address | IPv6Address) -> bool:
    """Ask the kernel. Raises OSError, AttributeError or struct.error if it gives no usable reply."""
    if not _kernel:
        _kernel.append(socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE))
    to = address.packed
    route = _ROUTE.pack(family_of(address), len(to) * 8, 0, 0, 0, 0, 0, 0, 0)
    question = route + _ATTRIBUTE.pack(_ATTRIBUTE.size + len(to), _DESTINATION) + to
    number = next(_sequence) & 0xFFFFFFFF
    _kernel[0].send(_HEADER.pack(_HEADER.size + len(question), _GETROUTE, _REQUEST, number, 0) + question)
    for _ in range(MOST_ANSWERS):
        answer = _kernel[0].recv(65536, socket.MSG_DONTWAIT)  # the reply is queued before `send` returns
        _, kind, _, to_number, _ = _HEADER.unpack_from(answer)
        if to_number != number:
            continue
        if kind == _NEWROUTE:
            return _ROUTE.unpack_from(answer, _HEADER.size)[7] in _TO_US
        failure = -struct.unpack_from("=i", answer, _HEADER.size)[0] if kind == _ERROR else errno.EPROTO
        if failure in _NO_WAY:
            return False
        raise OSError(failure, os.strerror(failure))
    raise OSError(errno.EPROTO, os.strerror(errno.EPROTO))


def _can_be_bound(address: IPv4Address | IPv6Address) -> bool:
    """Whether a socket can be bound to the address. Raises TargetError."""
    try:
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as sock:
            sock.bind((address.compressed, 0))
    except OSError as error:
        if error.errno in _EXHAUSTED:
            raise target_error(error) from None
        return error.errno not in _NOT_OURS
    return True
