"""Where a server has its accounts from (`--accounts`): lane's own kinds, or a plugin's."""

from lane.config import ServerConfig
from lane.errors import ConfigError, LaneError, UsageError
from lane.plugins import Plugins
from lane.text import describe
from lane.users.kinds import Kinds
from lane.users.source import Source


def open_accounts(config: ServerConfig, plugins: Plugins) -> Source:
    """The accounts that `--accounts` names. Raises UsageError for unknown ones, ConfigError, Unreachable."""
    plugins.register(Kinds(), "lane-accounts")
    try:
        found = plugins.hook.lane_accounts(where=config.accounts, state_dir=config.state_dir)
    except LaneError:
        raise
    except Exception as error:
        raise ConfigError(f"--accounts {config.accounts}: {describe(error)}") from None
    if found is None:
        raise UsageError(f"--accounts {config.accounts}: no such accounts are known here (lane plugins)")
    if not isinstance(found, Source):
        raise ConfigError(f"--accounts {config.accounts}: a plugin gave {found!r}, which has no accounts")
    return found
