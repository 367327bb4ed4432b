"""The transports that a client may use."""

import pytest

from lane.cli import client, option_parser
from lane.config import client_config
from lane.errors import UsageError
from lane.plugins import Plugins


def test_nothing_to_choose_from_is_said():
    plugins = Plugins()
    with pytest.raises(UsageError, match="there is no transport to choose"):
        client._transports(client_config(option_parser.defaults("client")), plugins)
