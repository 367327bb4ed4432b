"""Names to addresses, by the system's resolver, without ever blocking the process.

`getaddrinfo` blocks its thread for as long as it likes, and nothing can stop it. So look-ups run in a
pool of threads that serves nothing else, and what waits for a thread is bounded: a dead name server
makes look-ups fail, and neither fills memory nor touches sessions that are up. No cache: the
system has one that knows the time to live.
"""

import itertools
import socket
from collections.abc import Iterable
from ipaddress import ip_address

import gevent
from gevent.threadpool import ThreadPool

from lane.address import unmapped
from lane.errors import Status, TargetError
from lane.net.names import ascii_name, literal

MAX_ADDRESSES = 16
"""Addresses of one name that are used."""

Found = list[tuple[socket.AddressFamily, str]]

_UNKNOWN = {socket.EAI_NONAME, socket.EAI_NODATA}


class Resolver:
    """Looks names up in at most `threads` threads, with `waiting` greenlets in line for one.

    `timeout` (seconds) ends the wait of who asks, in line included. The thread stays busy until the
    system gives up, and only then takes the next.
    """

    def __init__(self, threads: int = 16, waiting: int = 256, timeout: float = 10.0) -> None:
        self._pool = ThreadPool(threads)
        self._limit = waiting
        self._timeout = timeout
        self._waiting = 0

    def resolve(self, host: str, port: int) -> Found:
        """The addresses of `host`, families taking turns, IPv6 first (RFC 8305 section 4); 1 to 16 of them.

        An IP address is its own answer. Raises TargetError: HOST_UNREACHABLE for a name that is not
        known or not answered, FAILURE when too many are waiting or the resolver itself fails.
        """
        if address := literal(host):
            return [(socket.AF_INET if address.version == 4 else socket.AF_INET6, str(address))]
        name = ascii_name(host)
        with gevent.Timeout(self._timeout, TargetError(Status.HOST_UNREACHABLE, "name look-up timed out")):
            answer = self._in_thread(name, port)
        if isinstance(answer, OSError):
            raise _target_error(answer)
        found = _interleave(answer)
        if not found:
            raise TargetError(Status.HOST_UNREACHABLE, "name has no address")
        return found

    def _in_thread(self, name: str, port: int) -> Found | OSError:
        if self._waiting >= self._limit:
            raise TargetError(Status.FAILURE, "resolver is full")
        self._waiting += 1
        try:
            job = self._pool.spawn(_look_up, name, port)  # blocks while all threads are busy
        finally:
            self._waiting -= 1
        answer: Found | OSError = job.get()
        return answer


def _look_up(name: str, port: int) -> Found | OSError:
    """Runs in a thread. Gives its error as a value: gevent prints a traceback of one that is raised."""
    try:
        infos = socket.getaddrinfo(name.encode("ascii"), port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error
    found = [unmapped(ip_address(where[0])) for _, _, _, _, where in infos]
    return [(socket.AF_INET if one.version == 4 else socket.AF_INET6, str(one)) for one in found]


def _interleave(found: Iterable[tuple[socket.AddressFamily, str]]) -> Found:
    """Each address once, IPv6 and IPv4 in turns, otherwise in the order of the system (RFC 6724)."""
    unique = dict.fromkeys(found)
    six = [one for one in unique if one[0] == socket.AF_INET6]
    four = [one for one in unique if one[0] == socket.AF_INET]
    pairs = itertools.zip_longest(six, four)
    return [one for one in itertools.chain.from_iterable(pairs) if one is not None][:MAX_ADDRESSES]


def _target_error(error: OSError) -> TargetError:
    if error.errno in _UNKNOWN:
        return TargetError(Status.HOST_UNREACHABLE, "name not known")
    if error.errno == socket.EAI_AGAIN:
        return TargetError(Status.HOST_UNREACHABLE, "name look-up failed for now")
    return TargetError(Status.FAILURE, f"name look-up failed: {error.strerror}")
