"""Parsers of values in options and files: sizes, durations, lists, `@FILE`.

Plugins use them too. So they are not in `lane.config`, which handles lane's own options. All parsers raise
UsageError with a text that repeats no secret. The caller adds the name of the option.
"""

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from lane.errors import ConfigError, UsageError
from lane.files import SECRET, read_text

T = TypeVar("T")
Number = TypeVar("Number", int, float)
KB, MB, GB, TB = 1 << 10, 1 << 20, 1 << 30, 1 << 40
MAX_FILE = 65536
"""The largest `@FILE`, bytes."""
_UNITS = {"": 1, "K": KB, "M": MB, "G": GB, "T": TB}
_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def parse_size(text: str) -> int:
    """Bytes from `8KB`, `16MB`, `1GiB` (all of 1024) or plain bytes. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]?)(?:I?B)?", text.strip().upper(), re.ASCII)
    if not match:
        raise UsageError(f"malformed size {text!r}: expected one like 16MB")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_duration(text: str) -> float:
    """Seconds from `500ms`, `10s`, `10m`, `1h`, `7d` or plain seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,9})?)\s*(ms|s|m|h|d|)", text.strip().lower(), re.ASCII)
    if not match:
        raise UsageError(f"malformed duration {text!r}: expected one like 10s")
    return float(match[1]) * _SECONDS[match[2]]


def parse_count(text: str) -> int:
    """A whole number of at most 15 digits. Raises UsageError."""
    if not re.fullmatch(r"[0-9]{1,15}", text.strip()):
        raise UsageError(f"malformed number {text!r}")
    return int(text)


def within(
    parse: Callable[[str], Number], least: Number, most: Number, words: str
) -> Callable[[str], Number]:
    """A parser like `parse` that allows only `least` to `most`. `words` is this range as text."""

    def limited(text: str) -> Number:
        value = parse(text)
        if not least <= value <= most:
            raise UsageError(f"{text} is out of range: {words}")
        return value

    return limited


def parse_flag(text: str) -> bool:
    """`yes` or `no`. Raises UsageError."""
    if text.lower() not in ("yes", "true", "no", "false"):
        raise UsageError("expected yes or no")
    return text.lower() in ("yes", "true")


def parse_path(text: str) -> Path:
    """A path; `~` is the home folder. Raises UsageError if the text is empty or there is no such home."""
    if not text:
        raise UsageError("expected a path")
    path = os.path.expanduser(text)
    if path.startswith("~"):
        home = text.partition("/")[0]
        raise UsageError(f"{text}: there is no home {home} here: give the path in full (or ./{text})")
    return Path(path)


def split(text: str) -> list[str]:
    """The parts of a comma-separated list, without empty ones."""
    return [part.strip() for part in text.split(",") if part.strip()]


def parse_names(text: str) -> tuple[str, ...]:
    """A comma-separated list of at least one name, each once. Raises UsageError."""
    names = tuple(dict.fromkeys(split(text)))
    if not names:
        raise UsageError("expected at least one name")
    return names


def parse_credentials(text: str) -> tuple[bytes, bytes]:
    """User and password from `USER:PASSWORD`, with the limits of RFC 1929 section 2. Raises UsageError."""
    user, _, password = text.encode().partition(b":")
    return check_credentials(user, password)


def check_credentials(user: bytes, password: bytes) -> tuple[bytes, bytes]:
    """Check the lengths of both (RFC 1929 section 2) and return them. Raises UsageError."""
    if not (0 < len(user) < 256 and 0 < len(password) < 256):
        raise UsageError("expected USER:PASSWORD, each of 1 to 255 bytes")
    return user, password


def unquoted(text: str) -> str:
    """A value without surrounding spaces, line ends and quotes."""
    text = text.strip().strip("\ufeff").strip()
    return text[1:-1].strip() if re.fullmatch(r"\"[^\"]*\"|'[^']*'", text) else text


def inline_or_file(text: str, parse: Callable[[str], T]) -> T:
    """Parse `text`, or the content of the file that `@FILE` names. A secret in a file does not show in `ps`.

    Raises ConfigError for a fault of the file (for example, if others may read it) or of its content.
    Without a file it raises what `parse` raises.
    """
    if not text.startswith("@"):
        return parse(text)
    path = parse_path(text[1:])
    content = unquoted(read_text(path, MAX_FILE, closed=SECRET))
    try:
        return parse(content)
    except UsageError as error:
        raise ConfigError(f"{path}: {error}") from None
