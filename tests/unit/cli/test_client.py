"""The transports that a client may use."""

import pytest

from lane.cli import client, options
from lane.config import client_config
from lane.errors import UsageError
from lane.plugins import Plugins


def test_nothing_to_choose_from_is_said():
    plugins = Plugins()
    with pytest.raises(UsageError, match="there is no transport to choose"):
        client._transports(client_config(options.defaults("client")), plugins)
