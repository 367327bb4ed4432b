"""The configuration of `lane open`."""

from argparse import Namespace
from dataclasses import dataclass
from pathlib import Path

from lane.address import Address
from lane.config.option_reader import Options


@dataclass(frozen=True, slots=True)
class OpenConfig:
    """Whose page is opened. Without any of the first three: the client's, or else the server's."""

    admin: Address | Path | None
    """The admin port."""
    control: Path | None
    """The client's socket."""
    state_dir: Path | None
    """The server's folder."""
    print: bool
    """Whether no browser is started."""


def open_config(namespace: Namespace) -> OpenConfig:
    """Check the options of `lane open`. Raises UsageError."""
    options = Options(namespace, "open")
    control = options.value("control")
    if control == "off":
        raise options.error("control", "a client without a socket can't be asked")
    return OpenConfig(
        admin=options.value("admin"),
        control=control if isinstance(control, Path) else None,
        state_dir=options.value("state_dir"),
        print=options.value("print"),
    )
