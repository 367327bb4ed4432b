"""Reading files: checks of their permissions, and decoding of text.

Code is not run if other users may change its file. A secret is not accepted if other users may read its file.
Text files may start with a byte order mark, and end their lines in any of the usual ways.
"""

import codecs
import os
import stat
from pathlib import Path

from lane.errors import ConfigError

_OTHERS = (
    ("UTF-32", codecs.BOM_UTF32_LE),  # before UTF-16, whose mark it begins with
    ("UTF-32", codecs.BOM_UTF32_BE),
    ("UTF-16", codecs.BOM_UTF16_LE),
    ("UTF-16", codecs.BOM_UTF16_BE),
)
SECRET = 0o027
"""Permission bits that a file with a secret must not have. The user's group may read it."""


def others_may_write(path: Path) -> bool:
    """Whether anybody but root and this process's user could change the file. Raises OSError."""
    if not hasattr(os, "geteuid"):  # Windows has other permissions
        return False
    info = path.stat()
    return bool(info.st_mode & 0o022) or info.st_uid not in (0, os.geteuid())


def exposed(path: Path, info: os.stat_result, closed: int) -> str | None:
    """The fault in the permissions of a file with secrets, if any. `closed` has the forbidden bits.

    The owner must be root or this process's user; root accepts any owner. Pipes, and files that this process
    inherited open, are not checked.
    """
    if not closed or not hasattr(os, "geteuid") or _handed(path) or not stat.S_ISREG(info.st_mode):
        return None
    if os.geteuid() not in (0, info.st_uid) and info.st_uid != 0:
        return "it belongs to another user"
    if info.st_mode & closed:
        return f"others may {'write to' if info.st_mode & closed & 0o022 else 'read'} it"
    return None


def read(path: Path, most: int, *, closed: int = 0) -> bytes:
    """Return the content of a file of at most `most` bytes. Raises ConfigError.

    `closed`: see `exposed`.
    """
    try:
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            if wrong := exposed(path, info, closed):
                advice = f" (chmod 600 {path})" if info.st_mode & closed else ""
                raise ConfigError(f"{path}: refused, since {wrong}{advice}")
            data = file.read(most + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > most:
        raise ConfigError(f"{path} is larger than {most} bytes")
    return data


def read_text(path: Path, most: int, *, closed: int = 0) -> str:
    """Read a text file: see `read` and `text_of`."""
    return text_of(read(path, most, closed=closed), path)


def text_of(data: bytes, path: Path | str) -> str:
    """Decode the content of the file `path`. Lines end with `\\n` in the result. Raises ConfigError."""
    for name, mark in _OTHERS:
        if data.startswith(mark):
            raise ConfigError(f"{path}: {name} text: save it as UTF-8")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: not UTF-8 text") from None
    if "\0" in text:  # usually UTF-16 without a mark
        raise ConfigError(f"{path}: not text: save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _handed(path: Path) -> bool:
    """Whether a path names a descriptor of this process."""
    folder = str(path.parent)
    return str(path) == "/dev/stdin" or folder in ("/dev/fd", "/proc/self/fd", f"/proc/{os.getpid()}/fd")
