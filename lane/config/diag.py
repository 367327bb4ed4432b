"""The configuration of `lane diag`."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from lane.config.option_reader import Options


@dataclass(frozen=True, slots=True)
class DiagConfig:
    """Whom `lane diag` asks. None: whom the configuration files name, which may be wrong themselves."""

    control: Path | None
    """The client's socket."""
    state_dir: Path | None
    """The server's folder."""


def diag_config(namespace: Namespace) -> DiagConfig:
    """Check the options. Raises UsageError or ConfigError."""
    options = Options(namespace, "diag")
    control = options.value("control")
    return DiagConfig(control if isinstance(control, Path) else None, options.value("state_dir"))
