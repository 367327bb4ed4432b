"""The configuration of `lane user` and `lane kick`."""

from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lane.address import Address
from lane.config.option_reader import Options
from lane.config.server import identity
from lane.errors import UsageError
from lane.users.limits import NONE

_LIMITS = ("expires", "quota", "rate", "sessions", "devices", "note")


@dataclass(frozen=True, slots=True)
class UserConfig:
    """What a command is to do with a user."""

    command: str
    """Such as `user add`."""
    name: str
    """The user; empty for `user list`."""
    state_dir: Path
    accounts: str
    json: bool
    changes: Mapping[str, Any]
    """Fields of the account that are to be set."""
    host: Address | None = None
    """Where clients reach the server, for links; None: not said. Port 0: that of `listen`."""
    listen: Address | None = None
    cert: Path | None = None
    cert_key: Path | None = None
    carried: tuple[tuple[str, str], ...] = ()
    """The plugins' options for links."""
    qr: bool = False
    png: Path | None = None


def user_config(namespace: Namespace, command: str) -> UserConfig:
    """Check the options of `command`. Raises UsageError or ConfigError."""
    options = Options(namespace, command)
    values = options.values()
    changes = {name: values.pop(name) for name in _LIMITS if values.get(name) is not None}
    changes = {name: None if value is NONE else value for name, value in changes.items()}
    for name in _LIMITS:
        values.pop(name, None)
    if "name" in values and values["name"] is None:
        raise UsageError(f"which user? lane {command} NAME")
    if command == "user set" and not changes:
        raise UsageError("nothing to set: lane user set --help lists what can be")
    values.pop("plugin_dir", None)
    if "cert" in values:
        values |= {**identity(options), "carried": namespace.carried}
    values["state_dir"] = identity(options, own=False)["state_dir"]
    return UserConfig(command=command, changes=changes, **{"name": "", **values})
