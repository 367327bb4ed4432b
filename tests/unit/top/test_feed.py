"""The views of a process that ends, comes back, or is of another version."""

from contextlib import closing

import gevent
import pytest

from lane.control import Control
from lane.errors import Unreachable
from lane.testing.harness import until
from lane.top.feed import Feed, Source
from tests.support.views import client_view


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "c.sock"


def listening(path, view=None):
    control = Control(path, lambda: {"choice": "tls"})
    if view is not None:
        control.views["view"] = lambda since: view
    control.start()
    return closing(control)


def asked(path):
    """The first view, asked for in a thread, since that blocks."""
    return gevent.get_hub().threadpool.apply(lambda: next(Source(path, "client").views(follow=False)))


def test_what_has_no_view_is_of_another_version(path):
    with (
        listening(path),
        pytest.raises(Unreachable, match="is of a version of lane that has no view"),
    ):
        asked(path)
    with listening(path, {"choice": "tls", "now": 0.0}), pytest.raises(Unreachable, match="has no view"):
        asked(path)
    with pytest.raises(Unreachable, match="no client answers at"):
        asked(path)


def test_it_goes_on_with_the_next_process(path):
    def seen(pid):
        with feed.lock:
            return feed.view is not None and feed.view["pid"] == pid and not feed.trouble

    with listening(path, client_view(pid=1)):
        feed = Feed(Source(path, "client"))
        until(lambda: seen(1))
    until(lambda: feed.trouble)
    assert f"{path}" in feed.trouble
    with feed.lock:
        assert feed.view["pid"] == 1
    with listening(path, client_view(pid=2)):
        until(lambda: seen(2))
        feed.close()
