"""Look-ups of a resolver, as texts: what is found, and how they fail."""

import pytest

from lane.errors import TargetError
from lane.net import resolver as net_resolver


def found(resolver, host, user=""):
    return [str(address) for address in resolver.resolve(host, user)]


def failure(resolver, host, user=""):
    with pytest.raises(TargetError) as caught:
        resolver.resolve(host, user)
    assert "\n" not in str(caught.value)
    return caught.value


def later(monkeypatch, seconds):
    now = net_resolver.monotonic()
    monkeypatch.setattr(net_resolver, "monotonic", lambda: now + seconds)
