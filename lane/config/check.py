"""The configuration of the commands that try a server: `lane check` and `lane speedtest`."""

from argparse import Namespace
from dataclasses import dataclass

from lane.config.client import ClientConfig, client_config
from lane.config.option_reader import Options
from lane.errors import UsageError


@dataclass(frozen=True, slots=True)
class CheckConfig:
    """The configuration of `lane check`."""

    client: ClientConfig
    """That of a client of this server."""
    deep: bool


@dataclass(frozen=True, slots=True)
class SpeedtestConfig:
    """The configuration of `lane speedtest`."""

    client: ClientConfig
    """That of a client of this server."""
    seconds: float
    """How long data flow, in each direction."""
    direct: str | None
    """A URL to download from without lane."""
    json: bool


def check_config(namespace: Namespace) -> CheckConfig:
    """Check the options. Raises UsageError or ConfigError."""
    return CheckConfig(_client(namespace, "check"), Options(namespace, "check").value("deep"))


def speedtest_config(namespace: Namespace) -> SpeedtestConfig:
    """Check the options. Raises UsageError or ConfigError."""
    options = Options(namespace, "speedtest")
    values = {name: options.value(name) for name in ("seconds", "direct", "json")}
    return SpeedtestConfig(_client(namespace, "speedtest"), **values)


def _client(namespace: Namespace, command: str) -> ClientConfig:
    """The configuration of a client, with all transports for `each`."""
    config = client_config(namespace)
    if config.server is None:
        raise UsageError(f"no server to {'check' if command == 'check' else 'test'}: pass --server")
    return config
