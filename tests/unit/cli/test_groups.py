"""Steering that the kernel refuses: an error, or the kernel's hash where that is right."""

import errno
import logging
import os
import socket
from types import SimpleNamespace

import pytest

from lane.cli import groups
from lane.errors import ConfigError
from lane.net.prepared import Wanted

UDP = Wanted(socket.SOCK_DGRAM, "", 0, 0, True, (("::", 1),))


@pytest.fixture
def refused(monkeypatch):
    """Steer with this option, on a kernel that takes no programs."""

    def attach(*_, **how):
        raise OSError(errno.ENOPROTOOPT, os.strerror(errno.ENOPROTOOPT))

    monkeypatch.setattr(groups, "attach", attach)
    return lambda spread: groups._steer(
        SimpleNamespace(config=SimpleNamespace(workers=2, spread=spread)), [(UDP, [[None], [None]])] * 3
    )


def test_clients_that_must_meet_in_one_worker(refused):
    with pytest.raises(
        ConfigError, match=r"no connections by address .Protocol not available.: pass --workers 1"
    ):
        refused("address")


def test_connections_that_may_go_anywhere(refused, caplog):
    with caplog.at_level(logging.WARNING):
        refused("connection")
    assert len(caplog.records) == 1  # said once
