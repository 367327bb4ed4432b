"""The state folder of a server: its identity and the keys of its users, made at the first start, then kept.

All links have both in them. So neither is ever made anew beside the other, unless somebody asks for that:
a folder that was only half restored would otherwise turn all clients away, and not say why.
"""

import fcntl
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lane.certs import Keys, ServerIdentity, new_identity, new_keys
from lane.errors import ConfigError
from lane.files import others_may_write, read

IDENTITY, KEYS = "identity.pem", "keys"
MAX_FILE = 4 * 1024 * 1024
"""Bytes of either file."""
_MAKERS = {IDENTITY: new_identity, KEYS: new_keys}

log = logging.getLogger("lane.server")


@dataclass(frozen=True, slots=True)
class State:
    """What a server proves itself with, and whom it serves."""

    identity: ServerIdentity
    keys: Keys
    made: tuple[str, ...] = ()
    """The files that were not there before."""


def keep(folder: Path, own: ServerIdentity | None = None, *, renew: bool = False) -> State:
    """What is in `folder`, made at the first start. `own`: an identity in place of the one there.

    Of the two files one alone is an error, unless `renew`: then the other is made. Raises ConfigError.
    """
    needed = (KEYS,) if own else (IDENTITY, KEYS)
    try:
        with _hold(folder):
            there = [name for name in (IDENTITY, KEYS) if os.path.lexists(folder / name)]
            made = tuple(name for name in needed if name not in there)
            if made and there and not renew:
                raise ConfigError(
                    f"no {made[0]} in {folder}, but {there[0]}: with a new one, the links of all clients"
                    " stop working. Put it back; or have it made with --renew, and give them new links"
                )
            _write(folder, {name: _MAKERS[name]() for name in made})
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}") from None
    if made and there:
        log.warning("made a new %s: links from before do not work any more", made[0])
    identity, keys = _load(folder, own)
    return State(identity, keys, made)


def look(folder: Path, own: ServerIdentity | None = None) -> State:
    """What `keep` has made. Changes nothing. Raises ConfigError."""
    for name in (KEYS,) if own else (KEYS, IDENTITY):
        try:
            there = (folder / name).is_file()
        except OSError as error:
            hint = " (try it with sudo)" if isinstance(error, PermissionError) and os.geteuid() else ""
            raise ConfigError(f"cannot read {folder / name}: {error.strerror}{hint}") from None
        if not there:
            raise ConfigError(f"no {name} in {folder}: lane server makes it at its first start")
    return State(*_load(folder, own))


def read_identity(folder: Path) -> ServerIdentity:
    """The server's own, that is in `folder`. Raises ConfigError."""
    path = folder / IDENTITY
    return ServerIdentity.parse(read(path, MAX_FILE, closed=0o077), path)


def read_keys(folder: Path) -> Keys:
    """The keys in `folder`. Raises ConfigError."""
    path = folder / KEYS
    return Keys.parse(read(path, MAX_FILE, closed=0o077), path)


def _load(folder: Path, own: ServerIdentity | None) -> tuple[ServerIdentity, Keys]:
    return own or read_identity(folder), read_keys(folder)


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """`folder`, made if it is not there (mode 0700), for this process alone. Raises ConfigError, OSError.

    Of two processes at once the second takes what the first made.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if others_may_write(folder):
        raise ConfigError(f"state folder {folder}: others may write to it, so it is refused (chmod 700)")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # closing unlocks
        yield
    finally:
        os.close(descriptor)


def _write(folder: Path, files: dict[str, bytes]) -> None:
    """All of `files`, readable by their owner alone. Where one can't be written, none is there."""
    temporary: dict[str, str] = {}
    try:
        for name, data in files.items():
            descriptor, temporary[name] = tempfile.mkstemp(dir=folder, prefix=f".{name}.")
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(descriptor)
        for name in files:
            os.replace(temporary[name], folder / name)
            del temporary[name]
    finally:
        for path in temporary.values():
            os.unlink(path)
    if files:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
