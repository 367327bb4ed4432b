"""How values are written in options and files: sizes, durations, lists, `@FILE`.

Apart from `lane.config`, which knows what each option means, since plugins have options of these kinds too.
All parsers raise UsageError with a text that does not repeat secrets; who calls adds what it was for.
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
"""Bytes of an `@FILE`."""
_UNITS = {"": 1, "K": KB, "M": MB, "G": GB, "T": TB}
_SECONDS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600}


def parse_size(text: str) -> int:
    """Bytes from `8KB`, `16MB`, `1GiB` (all of 1024) or plain bytes. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,15}(?:\.\d{1,9})?)\s*([KMGT]?)(?:I?B)?", text.strip().upper(), re.ASCII)
    if not match:
        raise UsageError(f"malformed size {text!r}: expected one like 16MB")
    return int(float(match[1]) * _UNITS[match[2]])


def parse_duration(text: str) -> float:
    """Seconds from `500ms`, `10s`, `10m`, `1h` or plain seconds. Raises UsageError."""
    match = re.fullmatch(r"(\d{1,12}(?:\.\d{1,9})?)\s*(ms|s|m|h|)", text.strip().lower(), re.ASCII)
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
    """`parse`, limited to `least` to `most`, which `words` say to people."""

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
    """A path; `~` is the home. Raises UsageError where it is empty, and where there is no such home."""
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
    """Both, if they are within the limits of RFC 1929 section 2. Raises UsageError."""
    if not (0 < len(user) < 256 and 0 < len(password) < 256):
        raise UsageError("expected USER:PASSWORD, each of 1 to 255 bytes")
    return user, password


def unquoted(text: str) -> str:
    """A value without the space, the line ends and the pair of quotes around it."""
    text = text.strip().strip("\ufeff").strip()
    return text[1:-1].strip() if re.fullmatch(r"\"[^\"]*\"|'[^']*'", text) else text


def inline_or_file(text: str, parse: Callable[[str], T]) -> T:
    """Parse `text`, or what the file holds that `@FILE` names: no secret then shows in `ps`.

    Raises ConfigError for what is wrong with the file (others may read it, say) or in it, and what `parse`
    raises otherwise.
    """
    if not text.startswith("@"):
        return parse(text)
    path = parse_path(text[1:])
    content = unquoted(read_text(path, MAX_FILE, closed=SECRET))
    try:
        return parse(content)
    except UsageError as error:
        raise ConfigError(f"{path}: {error}") from None
