"""The configuration of `lane service install` and `lane service remove`."""

from argparse import Namespace
from dataclasses import dataclass

from lane.config.option_reader import Options
from lane.errors import UsageError


@dataclass(frozen=True, slots=True)
class ServiceConfig:
    """What is installed or removed."""

    role: str
    """`client` or `server`."""
    dry_run: bool
    """Only say what would be done."""


def service_config(namespace: Namespace) -> ServiceConfig:
    """Check the options. Raises UsageError."""
    options = Options(namespace, "service install")
    client, server = options.value("client"), options.value("server")
    if client and server:
        raise UsageError("--client or --server, not both: run it once for each")
    return ServiceConfig("server" if server else "client", options.value("dry_run"))
