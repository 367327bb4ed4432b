"""The system's configuration for names: resolv.conf, the hosts file, and the C library's other sources.

Each look-up checks the files, and reads a file again if it has changed: a laptop that moves to another
network has other name servers from one moment to the next.
"""

import errno
import os
import re
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Generic, TypeVar

from gevent.lock import RLock
from gevent.threadpool import ThreadPool

from lane.address import unmapped
from lane.fair import maybe_yield

MAX_FILE = 16 << 20
"""The most bytes of a file that are read."""
MAX_NAMES = 500_000
"""The most names of the hosts file that are kept."""
MAX_SERVERS, MAX_SEARCH = 8, 32
THREADS = 4
"""Look-ups by the C library at once. Each may block its thread for an unlimited time."""

Parsed = TypeVar("Parsed")
Addresses = tuple[IPv4Address | IPv6Address, ...]
Hosts = dict[str, Addresses]


class Watched(Generic[Parsed]):
    """The parsed content of the file at `path`, always up to date. A missing file counts as empty."""

    def __init__(self, path: Path, parse: Callable[[str], Parsed]) -> None:
        self._path = path
        self._parse = parse
        self._parsed = parse("")
        self._state: object = self  # equals no file's state
        self._lock = RLock()

    def content(self) -> Parsed:
        """The current content. Blocks while another greenlet parses a changed file."""
        with self._lock:  # no limit: the holder parses a file of at most MAX_FILE bytes
            state = self._look()
            if state != self._state and (text := self._read()) is not None:
                self._parsed = self._parse(text)
                self._state = state
            return self._parsed

    def _look(self) -> object:
        try:
            found = os.stat(self._path)
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino, found.st_dev

    def _read(self) -> str | None:
        """Read the file. None if no descriptor is free: the next call tries again."""
        try:
            with self._path.open("rb") as file:
                return file.read(MAX_FILE).decode(errors="replace")
        except OSError as error:
            return None if error.errno in (errno.EMFILE, errno.ENFILE) else ""


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """The name servers to query, and how (resolv.conf(5))."""

    servers: Addresses
    search: tuple[str, ...]
    """Domains that are searched first for a name with less than `ndots` dots."""
    ndots: int = 1
    timeout: float | None = None
    """Seconds that a server has to answer; None if the file does not say."""
    attempts: int | None = None
    """Rounds through all servers; None if the file does not say."""
    rotate: bool = False
    edns: bool = False
    over_tcp: bool = False
    ipv6: bool = True
    """Whether to query IPv6 addresses."""

    @classmethod
    def parse(cls, text: str) -> "ResolvConf":
        """Parse the file's text. Ignores what it can't understand, as the C library does."""
        servers: list[IPv4Address | IPv6Address] = []
        search = [socket.gethostname().partition(".")[2]]
        words: list[str] = []
        for line in text.splitlines():
            key, *values = line.split() or [""]
            if key == "nameserver" and values:
                try:
                    servers.append(ip_address(values[0]))
                except ValueError:
                    continue
            elif key in ("search", "domain") and values:
                search = values if key == "search" else values[:1]
            elif key == "options":
                words += values
        search = os.environ.get("LOCALDOMAIN", " ".join(search)).split()
        words += os.environ.get("RES_OPTIONS", "").split()
        return cls(
            # The C library's default is the machine itself.
            servers=tuple(servers[:MAX_SERVERS]) or (IPv4Address("127.0.0.1"),),
            search=tuple(domain.strip(".").lower() for domain in search[:MAX_SEARCH]),
            ndots=_number(words, "ndots", 0, 15) or (0 if "ndots:0" in words else 1),
            timeout=_number(words, "timeout", 1, 30),
            attempts=_number(words, "attempts", 1, 5),
            rotate="rotate" in words,
            edns="edns0" in words,
            over_tcp="use-vc" in words,
            ipv6="no-aaaa" not in words,
        )

    def candidates(self, name: str) -> list[str]:
        """The absolute names that `name` may stand for, in the order of the queries."""
        if name.endswith("."):
            return [name[:-1]]
        found = [f"{name}.{domain}" for domain in self.search if domain]
        return [name, *found] if name.count(".") >= self.ndots else [*found, name]


def _number(words: list[str], option: str, least: int, most: int) -> int | None:
    """The last value of an option, clamped to its limits; None if it is not set."""
    found = [word.partition(":")[2] for word in words if word.startswith(f"{option}:")]
    return min(max(int(found[-1]), least), most) if found and found[-1].isdecimal() else None


def parse_hosts(text: str) -> Hosts:
    """The addresses of each name in a hosts file (hosts(5)), in the file's order."""
    found: Hosts = {}
    same: dict[str, IPv4Address | IPv6Address | None] = {}  # block lists use one address for all names
    for line in text.splitlines():
        place, *names = line.partition("#")[0].split() or [""]
        if place not in same:
            if len(same) > MAX_NAMES:
                break
            try:
                same[place] = unmapped(ip_address(place))
            except ValueError:
                same[place] = None
        if address := same[place]:
            for name in names:
                known = found.get(key := name.lower().removesuffix("."), ())
                if len(found) < MAX_NAMES and address not in known:
                    found[key] = (*known, address)
        maybe_yield()
    return found


def parse_sources(text: str) -> tuple[str, ...]:
    """The C library's sources of host names (nsswitch.conf(5)) other than its files and the DNS."""
    lines = [line.partition("#")[0] for line in text.splitlines()]
    found = [line.partition(":")[2] for line in lines if line.strip().startswith("hosts:")]
    words = re.sub(r"\[[^]]*\]", " ", found[0]).split() if found else []
    return tuple(word for word in words if word not in ("files", "dns"))


class CLibrary:
    """Look-ups by the C library, each of which blocks a thread."""

    def look_up(self, name: str) -> Addresses:
        """The addresses of `name`, empty if it is unknown. Blocks while all threads are busy."""
        outcome: Addresses = self._pool.spawn(_getaddrinfo, name).get()  # no limit: the caller has one
        return outcome

    @cached_property
    def _pool(self) -> ThreadPool:
        return ThreadPool(THREADS)


def _getaddrinfo(name: str) -> Addresses:
    """Runs in a thread. Raises nothing, because gevent would print the traceback."""
    try:
        found = socket.getaddrinfo(name.encode("ascii"), None, type=socket.SOCK_STREAM)
        return tuple(dict.fromkeys(unmapped(ip_address(where[0])) for _, _, _, _, where in found))
    except (OSError, ValueError):
        return ()
