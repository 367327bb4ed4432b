"""The state folder of a server: its identity and the accounts of its users, created at the first start.

Each link contains both. So if only one of the files exists, the other one is not created again, unless the
operator asks for it. Otherwise a partly restored folder would lock out all clients without a reason.
"""

import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from lane.certs import ServerIdentity, new_identity
from lane.errors import ConfigError
from lane.files import others_may_write, read
from lane.users.account import Account
from lane.users.keys_file import new_user, read_keys
from lane.users.store import FILE, Store
from lane.vouching import still_vouches, vouch

IDENTITY, ACCOUNTS = "identity.pem", FILE
PREVIOUS = "previous.pem"
"""The certificates by which the previous key of the server vouches for the present one: `lane.vouching`."""
KEYS, OLD_KEYS = "keys", "keys.old"
"""The file with the users of earlier versions, and its name once they were taken over."""
MAX_FILE = 4 * 1024 * 1024
"""The largest size of the identity, bytes."""

log = logging.getLogger("lane.server")


@dataclass(frozen=True, slots=True)
class State:
    """A server's identity and its first user."""

    identity: ServerIdentity
    first: Account | None
    """The oldest account. None if the accounts are elsewhere, or all were removed."""
    made: tuple[str, ...] = ()
    """The files that were created now."""


def keep(
    folder: Path, own: ServerIdentity | None = None, *, renew: bool = False, accounts: bool = True
) -> State:
    """Read the state from `folder`, and create it at the first start. `own` replaces the identity there.

    If only one of the two files exists, that is an error. With `renew` the other file is created. Without
    `accounts` there is only the identity. Raises ConfigError.
    """
    needed = [name for name, wanted in ((IDENTITY, not own), (ACCOUNTS, accounts)) if wanted]
    kept = [name for name, wanted in ((IDENTITY, True), (ACCOUNTS, accounts)) if wanted]
    try:
        with _hold(folder):
            if accounts:
                _take_over(folder)
            there = [name for name in kept if os.path.lexists(folder / name)]
            made = tuple(name for name in needed if name not in there)
            if made and there and not renew:
                raise ConfigError(
                    f"no {made[0]} in {folder}, but {there[0]}: with a new one, the links of all clients"
                    " stop working. Put it back; or have it made with --renew, and give them new links"
                )
            if ACCOUNTS in made:
                Store.create(folder / ACCOUNTS, [new_user()]).close()
            try:
                if IDENTITY in made:
                    write(folder, {IDENTITY: new_identity()})
            except OSError:
                if ACCOUNTS in made:  # both or none
                    (folder / ACCOUNTS).unlink()
                raise
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}") from None
    if made and there:
        log.warning("made a new %s: links from before do not work any more", made[0])
    first = _first(folder) if accounts else None
    return State(own or read_identity(folder), first, made)


def look(folder: Path, own: ServerIdentity | None = None) -> State:
    """Read the state that `keep` has created. Changes nothing. Raises ConfigError."""
    accounts = ACCOUNTS if _is_there(folder / ACCOUNTS) or not _is_there(folder / KEYS) else KEYS
    for name in (accounts,) if own else (accounts, IDENTITY):
        if not _is_there(folder / name):
            raise ConfigError(f"no {name} in {folder}: lane server makes it at its first start")
    first = read_keys(folder / KEYS)[0] if accounts == KEYS else _first(folder)
    return State(own or read_identity(folder), first)


def open_accounts(folder: Path) -> Store:
    """The accounts in `folder`. Those of an earlier version are taken over first. Raises ConfigError."""
    if not _is_there(folder / ACCOUNTS) and not _is_there(folder / KEYS):
        raise ConfigError(f"no {ACCOUNTS} in {folder}: lane server makes it at its first start")
    try:
        with _locked(folder):
            _take_over(folder)
    except OSError as error:
        raise ConfigError(f"cannot write to {folder}: {error.strerror}") from None
    return Store(folder / ACCOUNTS)


def succeed(folder: Path, before: ServerIdentity, found: ServerIdentity, seconds: float) -> ServerIdentity:
    """The identity `found` that replaces `before` in a running server, with what vouches for it.

    Clients that have pinned the key of `before` accept it for some time, also after a restart. Raises
    ConfigError.
    """
    if found.binding != before.binding and seconds and PREVIOUS not in _vouched(folder, found):
        try:
            pem = vouch(before.chain_pem, before.key_pem, found.chain_pem, seconds)
            write(folder, {PREVIOUS: pem})
        except ValueError as error:
            raise ConfigError(f"the key of the certificate before can't sign: {error}") from None
        except OSError as error:
            raise ConfigError(f"cannot write to {folder}: {error.strerror}") from None
    return with_previous(folder, found)


def with_previous(folder: Path, identity: ServerIdentity) -> ServerIdentity:
    """The identity with what vouches for it, if its key has changed lately."""
    pem = _vouched(folder, identity).get(PREVIOUS)
    return replace(identity, chain_pem=identity.chain_pem + pem) if pem else identity


def _vouched(folder: Path, identity: ServerIdentity) -> dict[str, bytes]:
    """What vouches for the key of an identity, if anything does: the file PREVIOUS."""
    try:
        pem = (folder / PREVIOUS).read_bytes()
    except OSError:
        return {}
    return {PREVIOUS: pem} if still_vouches(pem, identity.chain_pem) else {}


def _take_over(folder: Path) -> None:
    """Move the users of an earlier version into the database, once. Raises ConfigError, OSError."""
    if not os.path.lexists(folder / KEYS):
        return
    if os.path.lexists(folder / ACCOUNTS):
        log.warning("%s is not read: users are in %s (lane user)", folder / KEYS, folder / ACCOUNTS)
        return
    accounts = read_keys(folder / KEYS)
    Store.create(folder / ACCOUNTS, accounts).close()
    os.replace(folder / KEYS, folder / OLD_KEYS)
    users = "its user is" if len(accounts) == 1 else f"its {len(accounts)} users are"
    log.warning(
        "%s was taken over: %s in %s now, and their links still work. The file is %s now, and not read.",
        folder / KEYS, users, ACCOUNTS, OLD_KEYS,
    )  # fmt: skip


def _first(folder: Path) -> Account | None:
    store = Store(folder / ACCOUNTS)
    try:
        return store.first()
    finally:
        store.close()


def _is_there(path: Path) -> bool:
    """Whether there is such a file. Raises ConfigError if that can't be known."""
    try:
        return path.is_file()
    except OSError as error:
        hint = " (try it with sudo)" if isinstance(error, PermissionError) and os.geteuid() else ""
        raise ConfigError(f"cannot read {path}: {error.strerror}{hint}") from None


def read_identity(folder: Path) -> ServerIdentity:
    """Read the server's identity from `folder`. Raises ConfigError."""
    path = folder / IDENTITY
    return ServerIdentity.parse(read(path, MAX_FILE, closed=0o077), path)


@contextmanager
def _hold(folder: Path) -> Iterator[None]:
    """Lock `folder` for this process; create it if needed (mode 0700). Raises ConfigError, OSError.

    If two processes start at once, the second one uses the files of the first.
    """
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    if others_may_write(folder):
        raise ConfigError(f"state folder {folder}: others may write to it, so it is refused (chmod 700)")
    with _locked(folder):
        yield


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock `folder` for this process. Raises ConfigError or OSError."""
    try:
        import fcntl  # noqa: PLC0415
    except ImportError:
        raise ConfigError("a server needs Unix: it locks its folder, and checks who may read it") from None
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
