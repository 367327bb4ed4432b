"""The configuration of `lane plugins`."""

from argparse import Namespace
from dataclasses import dataclass

from lane.config.option_reader import Options


@dataclass(frozen=True, slots=True)
class PluginsConfig:
    """The configuration of `lane plugins`."""

    measure: str | None
    """The transport whose cost is measured; None for a list of the plugins."""


def plugins_config(namespace: Namespace) -> PluginsConfig:
    """Check the options. Raises UsageError or ConfigError."""
    return PluginsConfig(**Options(namespace, "plugins").values(but=("plugin_dir",)))
