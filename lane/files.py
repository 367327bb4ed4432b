"""Whom a file is trusted with: what others may change is not run, and what they may read is no secret."""

import os
from pathlib import Path

from lane.errors import ConfigError


def others_may_write(path: Path) -> bool:
    """Whether somebody else than root and the user of this process could change it. Raises OSError."""
    info = path.stat()
    return bool(info.st_mode & 0o022) or info.st_uid not in (0, os.geteuid())


def read(path: Path, most: int, *, closed: int = 0) -> bytes:
    """The content of a file of at most `most` bytes. Raises ConfigError.

    `closed`: permission bits that a file with secrets may not have; root then reads anybody's, and everybody
    else only root's and his own.
    """
    try:
        with path.open("rb") as file:
            info = os.fstat(file.fileno())
            if closed and os.geteuid() not in (0, info.st_uid) and info.st_uid != 0:
                raise ConfigError(f"{path}: refused, since it belongs to another user")
            if info.st_mode & closed:
                what = "write to" if info.st_mode & closed & 0o022 else "read"
                raise ConfigError(f"{path}: refused, since others may {what} it (chmod 600 {path})")
            data = file.read(most + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > most:
        raise ConfigError(f"{path} is larger than {most} bytes")
    return data
