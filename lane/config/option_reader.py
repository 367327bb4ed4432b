"""Parses the options of a command. Each option is a text with its source.

The source decides which error a bad value raises: a ConfigError with the name of the file, or a UsageError
with the name of the option or variable. No message repeats a key, a link or a password.
"""

from argparse import Namespace
from collections.abc import Container
from pathlib import Path
from typing import Any

from lane.address import Address
from lane.config.listeners import is_loopback
from lane.config.option import Option
from lane.config.settings import options_of
from lane.errors import ConfigError, Fatal, UsageError
from lane.files import SECRET, exposed

_ENDS = "\r\n\ufeff"


class Options:
    """The options of `command`. `namespace` has their texts and sources (see `lane.cli.option_parser`)."""

    def __init__(self, namespace: Namespace, command: str) -> None:
        self._texts = vars(namespace)
        self._options = {option.dest: option for option in options_of(command) if option.kind != "file"}

    def values(self, but: Container[str] = ()) -> dict[str, Any]:
        """All values, by configuration field, without those of the options in `but`.

        Raises UsageError or ConfigError.
        """
        return {
            option.field or name: self.value(name)
            for name, option in self._options.items()
            if name not in but
        }

    def value(self, name: str) -> Any:
        """The value of one option. If it is not set and has no default: None, or () for a list.

        Raises UsageError or ConfigError.
        """
        option, text = self._options[name], self._texts[name]
        if text is None:
            return () if option.kind == "list" else None
        text = (option.tidy or _trimmed)(text)
        if not "".join(text).isprintable():  # invalid UTF-8 too, which arrives as surrogates
            subject = f"the {name} " if option.kind == "position" else ""
            raise self.error(name, f"{subject}has characters that cannot be printed")
        try:
            value = option.parse(text)
        except UsageError as error:
            raise self.error(name, str(error)) from None
        if option.secret and option.secret(value):
            self._keep_secret(option)
        return value

    def error(self, name: str, message: str) -> Fatal:
        """The exception for a bad value of `name`."""
        source = self._texts["sources"].get(name)
        key = self._options[name].name
        if self._options[name].kind == "position":
            return UsageError(message)
        if isinstance(source, Path):
            return ConfigError(f"{source}: {key}: {message}")
        return UsageError(f"{source or '--' + key}: {message}")

    def _keep_secret(self, option: Option) -> None:
        """Raise ConfigError if the value is in a configuration file that other users may read."""
        source = self._texts["sources"].get(option.dest)
        if not isinstance(source, Path) or self._texts[option.dest].startswith("@"):
            return
        if wrong := exposed(source, source.stat(), SECRET):
            hint = f"chmod 600 {source}, or {option.name} = @FILE"
            raise self.error(option.dest, f"a secret, and {wrong} ({hint})")


def check_buffers(options: Options, size: int, total: int) -> None:
    """Raise UsageError or ConfigError if the total is smaller than the buffer of one session."""
    if total < size:
        raise options.error("buffer_total", "must be at least buffer-size")


def check_admin(options: Options, where: Address | Path | None, secret: str | None) -> None:
    """Raise UsageError or ConfigError if strangers could ask the admin port."""
    if isinstance(where, Address) and not is_loopback(where.host) and secret is None:
        message = f"{where} can be reached from other machines: that needs admin-secret"
        raise options.error("admin", message)


def plugin_dir(namespace: Namespace) -> Path | None:
    """Only the plugin folder, which is needed before the other options are known."""
    path: Path | None = Options(namespace, "plugins").value("plugin_dir")
    return path


def _trimmed(value: str | list[str]) -> str | list[str]:
    """The value without the line ends that shells and editors add."""
    return value.strip(_ENDS) if isinstance(value, str) else [text.strip(_ENDS) for text in value]
