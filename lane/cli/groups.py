"""Opening the sockets of all workers of a server: a group for each address, with a program that steers."""

import logging
import socket
from itertools import chain

from lane.cli.forking import ask
from lane.cli.server import Setup
from lane.errors import ConfigError
from lane.net import prepared
from lane.net.listen import open_group
from lane.net.prepared import Wanted
from lane.net.steering import attach
from lane.server.listening import listen_all

Groups = list[tuple[Wanted, list[list[socket.socket]]]]
"""What transports want, with the sockets for it: for each worker, one on each address."""

_TRIES = 5
"""Ports that the kernel picks until all workers could listen there."""

log = logging.getLogger("lane.server")


def open_groups(setup: Setup) -> tuple[int, Groups]:
    """Open the sockets. Returns the server's port too. Raises ConfigError."""
    listen, workers = setup.config.listen, setup.config.workers
    for left in reversed(range(_TRIES)):
        port, rows = ask(lambda: _rehearse(setup))
        groups: Groups = []
        try:
            for row in rows:
                wanted = Wanted(*row)
                groups.append((wanted, open_group(wanted, workers)))
        except OSError as error:
            for sock in chain.from_iterable(chain.from_iterable(group for _, group in groups)):
                sock.close()
            if listen.port or not left:
                raise ConfigError(f"cannot listen on {listen}: {error.strerror}") from None
        else:
            _steer(setup, groups)
            return port, groups
    raise AssertionError("the last try returns or raises")


def _rehearse(setup: Setup) -> tuple[int, list[Wanted]]:
    """Listen with all transports, in a process that ends then, to find out which sockets that takes.

    It also finds out whether the port is free: a shared one would be shared with any other server of this
    user.
    """
    logging.disable()
    prepared.rehearsal = rehearsal = prepared.Rehearsal()
    port, _ = listen_all(setup.transports, setup.config.listen, setup.kept.identity)
    return port, rehearsal.wanted


def _steer(setup: Setup, groups: Groups) -> None:
    config = setup.config
    try:
        for wanted, group in groups:
            for sock in group[0]:
                attach(sock, config.workers, config.spread, quic=wanted.quic)
    except OSError as error:
        if config.spread == "address":
            raise ConfigError(
                f"this kernel shares out no connections by address ({error.strerror}): pass --workers 1, or"
                " --spread connection"
            ) from None
        # QUIC works with the kernel's hash too, since workers hand over what is not theirs.
        log.warning("the kernel does not find the workers of QUIC connections: %s", error.strerror)
