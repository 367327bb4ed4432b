"""The texts of the options, each with the place it came from, and what both commands make of them.

Where a value came from decides how a bad one ends: in a file it is a ConfigError that names the file,
elsewhere a UsageError that names the option or variable. No message repeats a key, a link or a password.
"""

import re
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from lane.address import Address
from lane.errors import ConfigError, Fatal, TargetError, UsageError
from lane.files import SECRET, exposed
from lane.log import LEVELS
from lane.net.names import literal, normal_name
from lane.values import (
    GB,
    KB,
    TB,
    inline_or_file,
    parse_count,
    parse_duration,
    parse_path,
    parse_size,
    within,
)

T = TypeVar("T")
LIVE = {
    "client": frozenset(("auth", "ca", "grace", "log_file", "log_level", "rule", "rules")),
    "server": frozenset(
        (
            "allow", "allow_bind", "allow_reverse", "cert", "cert_key", "connect_timeout", "deny", "grace",
            "hello_timeout", "log_file", "log_level", "request_timeout", "spare_timeout",
        )
    ),
}  # fmt: skip
"""Options whose values, and the files that they name, are read again on SIGHUP; others take a restart."""
_LABEL = re.compile("[a-z0-9_](?:[a-z0-9_-]*[a-z0-9_])?")
_ENDS = "\r\n\ufeff"
count = within(parse_count, 1, 1_000_000, "1 to 1000000")
time = within(parse_duration, 0.001, 30 * 86400.0, "1ms to 720h")
_grace = within(parse_duration, 0.0, 86400.0, "0s to 24h")
_buffer_size = within(parse_size, KB, GB, "1KB to 1GB")
_buffer_total = within(parse_size, KB, TB, "1KB to 1TB")


class Options:
    """The texts, each with the place it came from (see `lane.cli.options`)."""

    def __init__(self, namespace: Namespace) -> None:
        self._texts = vars(namespace)

    def optional(
        self, name: str, parse: Callable[[Any], T], tidy: Callable[[Any], Any] | None = None
    ) -> T | None:
        """The value; None where nothing was given and there is no default. `tidy` comes before all else."""
        text = self._texts[name]
        if text is None:
            return None
        text = (tidy or _trimmed)(text)
        if not "".join(text).isprintable():  # bytes that are no UTF-8, too: they arrive as surrogates
            raise self.error(name, "has characters that cannot be printed")
        try:
            return parse(text)
        except UsageError as error:
            raise self.error(name, str(error)) from None

    def secret(
        self, name: str, parse: Callable[[str], T], tidy: Callable[[str], str] | None = None
    ) -> T | None:
        """As `optional`, of a secret or an `@FILE` with one."""
        value = self.optional(name, lambda text: inline_or_file(text, parse), tidy)
        if value is not None:
            self.keep_secret(name)
        return value

    def keep_secret(self, name: str) -> None:
        """Raises ConfigError where the value is in a configuration file that others may read."""
        source = self._texts["sources"].get(name)
        if not isinstance(source, Path) or self._texts[name].startswith("@"):
            return
        if wrong := exposed(source, source.stat(), SECRET):
            key = name.replace("_", "-")
            raise self.error(name, f"a secret, and {wrong} (chmod 600 {source}, or {key} = @FILE)")

    def required(self, name: str, parse: Callable[[Any], T]) -> T:
        """The value of an option that has a default."""
        value = self.optional(name, parse)
        assert value is not None
        return value

    def error(self, name: str, message: str) -> Fatal:
        """What to raise for a bad value of `name`."""
        source = self._texts["sources"].get(name)
        key = name.replace("_", "-")
        if isinstance(source, Path):
            return ConfigError(f"{source}: {key}: {message}")
        return UsageError(f"{source or '--' + key}: {message}")


def common(options: Options, listen: Address) -> dict[str, Any]:
    """What client and server both have."""
    size = options.required("buffer_size", _buffer_size)
    total = options.required("buffer_total", _buffer_total)
    if total < size:
        raise options.error("buffer_total", "must be at least buffer-size")
    return {
        "listen": listen,
        "buffer_size": size,
        "buffer_total": total,
        "max_sessions": options.required("max_sessions", count),
        "max_associations": options.required("max_associations", count),
        "request_timeout": options.required("request_timeout", time),
        "idle_timeout": options.required("idle_timeout", time),
        "resume_grace": options.required("resume_grace", _grace),
        "grace": options.required("grace", _grace),
        "plugin_dir": options.optional("plugin_dir", parse_path),
        "log_level": options.required("log_level", _log_level),
        "log_file": options.optional("log_file", parse_path),
    }


def _trimmed(value: str | list[str]) -> str | list[str]:
    """Without the line ends that shells and editors leave at a value."""
    return value.strip(_ENDS) if isinstance(value, str) else [text.strip(_ENDS) for text in value]


def plugin_dir(namespace: Namespace) -> Path | None:
    """The plugin folder alone, needed before the other options are even known."""
    return Options(namespace).optional("plugin_dir", parse_path)


def listening(everywhere: str) -> Callable[[str], Address]:
    """Reads where to listen: as `Address.parse`, and a port alone, which is one at the host `everywhere`.

    A host of `*` is every address.
    """

    def parse(text: str) -> Address:
        text = text.strip()
        return Address.parse(f"{everywhere}:{text}" if text.isdecimal() else re.sub(r"^\*(?=:)", "", text))

    return parse


def reachable(text: str) -> Address:
    """`HOST` or `HOST:PORT` (port 0 where there is none). Raises UsageError."""
    address = Address.parse(text, default_port=0)
    if not address.host:
        raise UsageError("expected HOST or HOST:PORT")
    if literal(address.host) is None and not _is_hostname(address.host):
        raise UsageError(f"{address.host!r} is no host name")
    return address


def _is_hostname(host: str) -> bool:
    """Whether a host can have that name (RFC 1123 section 2.1), which the DNS may not even know."""
    try:
        labels = normal_name(host).split(".")
    except TargetError:
        return False
    return all(map(_LABEL.fullmatch, labels)) and not labels[-1][0].isdigit()


def _log_level(text: str) -> str:
    if text.lower() not in LEVELS:
        raise UsageError(f"expected one of {', '.join(LEVELS)}")
    return text.lower()
