"""Watches for changes of this machine's network: another address, another default route.

After a change, measurements of the lanes are out of date, and a dead lane may work again. Linux reports a
change at once (rtnetlink(7)). On other systems this module checks the source address of outgoing packets
every few seconds.
"""

import logging
import socket
from collections.abc import Callable
from typing import Any

import gevent
import gevent.socket as gsocket

from lane.net.sockets import own_address
from lane.supervisor import supervise

log = logging.getLogger("lane.carriers")

POLL = 5.0
"""Seconds between two checks on a system that does not report changes."""
QUIET = 0.1
"""Seconds to wait for further messages about the same change."""
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK and RTMGRP_{IPV4,IPV6}_{IFADDR,ROUTE} of linux/rtnetlink.h."""


def watch(changed: Callable[[], None]) -> "gevent.Greenlet[..., None]":
    """Call `changed` after each change. Returns the greenlet that does so; kill it to stop."""
    return supervise("the watch of the network", _watch, changed)


def _watch(changed: Callable[[], None]) -> None:
    try:
        sock: Any = gsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        sock.bind((0, _GROUPS))
    except (OSError, AttributeError) as error:
        log.debug("polling for changes of the network, because the kernel does not report them: %s", error)
        _poll(changed)
        return
    with sock:
        while True:
            _next(sock)
            gevent.sleep(QUIET)  # one change causes many messages
            sock.setblocking(False)
            while _next(sock):
                pass
            sock.setblocking(True)
            changed()


def _next(sock: Any) -> bool:
    """Take one message. Returns whether there was one."""
    try:
        sock.recv(65536)  # no limit: the network may never change
    except BlockingIOError:
        return False
    except OSError:
        pass  # ENOBUFS: messages were lost, because the socket's buffer was full
    return True


def _poll(changed: Callable[[], None]) -> None:
    last = _address()
    while True:
        gevent.sleep(POLL)
        if (address := _address()) != last:
            last = address
            changed()


def _address() -> str:
    """The source address of packets to the Internet. Sends nothing to find it out."""
    try:
        return own_address()
    except OSError:
        return ""
