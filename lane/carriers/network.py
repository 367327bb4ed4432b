"""When this machine's way into the network changes: another address, another default route.

What was known of the lanes is old then, and a lane that did not work may do so now. Linux tells at once
(rtnetlink(7)); elsewhere the address that packets would leave from is looked up every few seconds.
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
"""Seconds between two looks where nobody tells."""
QUIET = 0.1
"""Seconds to wait for what belongs to the same change."""
_GROUPS = 0x1 | 0x10 | 0x40 | 0x100 | 0x400
"""RTMGRP_LINK and RTMGRP_{IPV4,IPV6}_{IFADDR,ROUTE} of linux/rtnetlink.h."""


def watch(changed: Callable[[], None]) -> "gevent.Greenlet[..., None]":
    """Call `changed` after each change, from a greenlet that is to be killed in the end."""
    return supervise("the watch of the network", _watch, changed)


def _watch(changed: Callable[[], None]) -> None:
    try:
        sock: Any = gsocket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        sock.bind((0, _GROUPS))
    except (OSError, AttributeError) as error:
        log.debug("changes of the network are looked up: %s", error)
        _poll(changed)
        return
    with sock:
        while True:
            _next(sock)
            gevent.sleep(QUIET)  # changes come in crowds
            sock.setblocking(False)
            while _next(sock):
                pass
            sock.setblocking(True)
            changed()


def _next(sock: Any) -> bool:
    """Take one message; whether there was one."""
    try:
        sock.recv(65536)  # no limit: networks may stay as they are
    except BlockingIOError:
        return False
    except OSError:
        pass  # ENOBUFS: there was more than the kernel keeps for us
    return True


def _poll(changed: Callable[[], None]) -> None:
    last = _address()
    while True:
        gevent.sleep(POLL)
        if (address := _address()) != last:
            last = address
            changed()


def _address() -> str:
    """The address that packets to the Internet would leave from; nothing is sent to find out."""
    try:
        return own_address()
    except OSError:
        return ""
