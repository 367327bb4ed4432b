"""A name server on loopback, and resolvers that ask it: see `tests.support.names`."""

import gevent
import pytest

from lane.net.resolver import Resolver
from tests.support.names import NameServer, write_etc


@pytest.fixture
def server():
    """A name server. The test hangs no longer than a minute."""
    gevent.idle()
    one = NameServer()
    with gevent.Timeout(60, AssertionError("the test hangs")):
        yield one
    one.close()


@pytest.fixture
def second(server):
    """Another one, at the same port of 127.0.0.2."""
    one = NameServer("127.0.0.2", server.port)
    one.zones["a.test"] = one.zones["b.test"] = ["A 192.0.2.2"]
    yield one
    one.close()


@pytest.fixture
def make(tmp_path, server):
    """A function that makes a resolver of a system whose files say what it is given."""

    def make(conf="", timeout=30.0, **files):
        return Resolver(write_etc(tmp_path, conf, **files), server.port, timeout)

    return make
