"""What the options of `lane plugins` mean."""

from argparse import Namespace
from dataclasses import dataclass

from lane.config.option_reader import Options


@dataclass(frozen=True, slots=True)
class PluginsConfig:
    """What is wanted of the plugins."""

    measure: str | None
    """The transport whose cost is to be found; None for a list of the plugins."""


def plugins_config(namespace: Namespace) -> PluginsConfig:
    """The options, checked. Raises UsageError or ConfigError."""
    return PluginsConfig(**Options(namespace, "plugins").values(but=("plugin_dir",)))
