"""The state folder of a server: its identity and the keys of its users, created at the first start.

Each link contains both. So if only one of the files exists, the other one is not created again, unless the
operator asks for it. Otherwise a partly restored folder would lock out all clients without a reason.
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lane.certs import ServerIdentity, new_identity
from lane.errors import ConfigError
from lane.files import others_may_write, read
from lane.keys import Keys, new_keys

IDENTITY, KEYS = "identity.pem", "keys"
MAX_FILE = 4 * 1024 * 1024
"""The largest size of each file, bytes."""
_MAKERS = {IDENTITY: new_identity, KEYS: new_keys}

log = logging.getLogger("lane.server")


@dataclass(frozen=True, slots=True)
class State:
    """A server's identity and its users."""

    identity: ServerIdentity
    keys: Keys
    made: tuple[str, ...] = ()
    """The files that were created now."""


def keep(folder: Path, own: ServerIdentity | None = None, *, renew: bool = False) -> State:
    """Read the state from `folder`, and create it at the first start. `own` replaces the identity there.

    If only one of the two files exists, that is an error. With `renew` the other file is created. Raises
    ConfigError.
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
            write(folder, {name: _MAKERS[name]() for name in made})
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}") from None
    if made and there:
        log.warning("made a new %s: links from before do not work any more", made[0])
    identity, keys = _load(folder, own)
    return State(identity, keys, made)


def look(folder: Path, own: ServerIdentity | None = None) -> State:
    """Read the state that `keep` has created. Changes nothing. Raises ConfigError."""
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
    """Read the server's identity from `folder`. Raises ConfigError."""
    path = folder / IDENTITY
    return ServerIdentity.parse(read(path, MAX_FILE, closed=0o077), path)


def read_keys(folder: Path) -> Keys:
    """Read the keys from `folder`. Raises ConfigError."""
    path = folder / KEYS
    return Keys.parse(read(path, MAX_FILE, closed=0o077), path)


def _load(folder: Path, own: ServerIdentity | None) -> tuple[ServerIdentity, Keys]:
    return own or read_identity(folder), read_keys(folder)


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Lock `folder` for this process; create it if needed (mode 0700). Raises ConfigError, OSError.

    If two processes start at once, the second one uses the files of the first.
    """
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:
        raise ConfigError("a server needs Unix: it locks its folder, and checks who may read it") from None
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if others_may_write(folder):
        raise ConfigError(f"state folder {folder}: others may write to it, so it is refused (chmod 700)")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)  # closing the descriptor unlocks
        yield
    finally:
        os.close(descriptor)


def write(folder: Path, files: dict[str, bytes]) -> None:
    """Write all of `files`, readable only by their owner, or none of them. Raises OSError."""
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
