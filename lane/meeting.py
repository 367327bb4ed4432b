"""Where a client and `lane why` meet: the file of the local socket, and who is believed there.

Others may be quicker to make a folder in /tmp than the user whose name it has, and put a link or a socket of
theirs there. So each end looks whose the folder is; who asks looks whose the socket is as well. The name of
the file tells where the client listens, and in which network: `127.0.0.1:1080` is another place in each
network namespace, and they may all have one /tmp.
"""

import fcntl
import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import gevent.socket as gsocket

from lane.address import Address
from lane.errors import ConfigError
from lane.text import printable

BACKLOG = 16
MAX_PATH = 107
"""Bytes of a socket's path (unix(7)); its end is one more."""
MOST_OTHERS = 5
"""Other clients that are named where one is not found."""
SERVICE = Path("/run/lane")
"""The folder that systemd makes for the shipped unit. Only root can make one in /run."""
_ALL = "client-*:*.sock"
"""All default files of a folder."""


class Unfit(Exception):
    """Why a path is not listened on, or not believed."""


def default_path(listen: Address) -> Path:
    """The socket of a client that listens there, in a folder of its user's own."""
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]  # from systemd
    if not folder and (runtime := os.environ.get("XDG_RUNTIME_DIR")):
        folder = f"{runtime}/lane"
    # Everybody may write to /tmp, so both ends look whose folder that is.
    return Path(folder or f"/tmp/lane-{os.geteuid()}", _name(listen.host, listen.port))  # noqa: S108


def find(listen: Address) -> Path:
    """Where to ask who takes connections there, in this network: a client of this user, or of the service.

    That may be one that listens on all addresses. `localhost` is whichever of its addresses a client has, and
    one that listens there is found at the loopback address of IPv4, too. Where there is none it is the user's
    default socket.
    """
    path = default_path(listen)
    near = ("127.0.0.1", "::1") if listen.host in ("localhost", "127.0.0.1") else ()
    names = [_name(host, listen.port) for host in (listen.host, *near, "0.0.0.0", "::", "")]
    folders = [folder for folder in (path.parent, SERVICE) if _is_ours(folder)]
    found = (folder / name for name in names for folder in folders)
    return next((one for one in found if os.path.lexists(one)), path)


def connect(sock: socket.socket, path: Path) -> None:
    """Connect to whoever listens at `path`. Raises Unfit where that may be another user, or OSError."""
    with _opened(path.parent) as (folder, owner):
        _check_owner(path.parent, owner)
        if path.is_symlink():
            raise Unfit("it is a symbolic link")
        try:
            sock.connect(_fitting(path, folder))
        except FileNotFoundError as error:
            if not (others := sorted(other.name for other in path.parent.glob(_ALL))):
                raise
            there = printable(", ".join(others[:MOST_OTHERS]))
            raise FileNotFoundError(error.errno, f"{error.strerror}, beside {there}") from None
    if hasattr(socket, "SO_PEERCRED"):  # the folder may be another one by now
        _, user, _ = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user not in (0, os.geteuid(), owner):
            raise Unfit("another user listens there")


def listen_at(path: Path) -> tuple[gsocket.socket, tuple[int, int]]:
    """A listening socket that only its owner may open, and which file it is. Raises ConfigError."""
    try:
        with suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)
        with _opened(path.parent) as (folder, owner):
            if owner != os.geteuid():
                raise Unfit("its folder belongs to another user")
            # For this process alone, for a few calls only: two would take each other's for stale.
            fcntl.flock(folder, fcntl.LOCK_EX)
            _make_room(path, folder)
            return _bind(path, folder), identity(path)
    except OSError as error:
        raise ConfigError(f"cannot listen on {path}: {error.strerror or error}") from None
    except Unfit as error:
        raise ConfigError(f"cannot listen on {path}: {error}") from None


def identity(path: Path) -> tuple[int, int]:
    """Which file it is. Raises OSError."""
    info = path.lstat()
    return info.st_dev, info.st_ino


def _name(host: str, port: int) -> str:
    network = ""
    with suppress(OSError):  # Linux only
        network = f"-{os.stat('/proc/self/ns/net').st_ino:x}"
    return f"client-{host}:{port}{network}.sock"


def _is_ours(folder: Path) -> bool:
    """Whether what is in it is believed."""
    with suppress(OSError, Unfit), _opened(folder) as (_, owner):
        _check_owner(folder, owner)
        return True
    return False


def _check_owner(folder: Path, owner: int) -> None:
    """Raises Unfit where another user may have made what is in `folder`."""
    given = os.geteuid() == 0 and folder.parent == SERVICE.parent  # by systemd, to the user of a unit
    if owner not in (0, os.geteuid()) and not given:
        raise Unfit("its folder belongs to another user")


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[int, int]]:
    """A descriptor of `folder`, and its owner.

    Raises Unfit if it is a link or others may write to it, or OSError.
    """
    if folder.is_symlink():
        raise Unfit("its folder is a symbolic link")
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        info = os.fstat(descriptor)
        if info.st_mode & 0o022:
            raise Unfit("others may write to its folder")
        yield descriptor, info.st_uid
    finally:
        os.close(descriptor)


def _fitting(path: Path, folder: int) -> str:
    """The path of a socket as the system takes it, also where it is too long. `folder`: a descriptor."""
    short = f"/proc/self/fd/{folder}/{path.name}"
    return str(path) if len(os.fsencode(path)) <= MAX_PATH or not os.path.exists("/proc/self/fd") else short


def _make_room(path: Path, folder: int) -> None:
    """Remove the socket of a client that has died: where it is a default one, of all that have.

    Else some would stay for ever, since no other network namespace need have the number of one that ended.
    """
    for other in path.parent.glob(_ALL) if path.match(_ALL) else [path]:
        if _is_dead(other, folder):
            other.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            raise Unfit("another client listens there")
        raise Unfit("there is a file that is no socket")


def _is_dead(path: Path, folder: int) -> bool:
    """Whether it is a socket on which nobody listens (any more)."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        if stat.S_ISSOCK(path.lstat().st_mode):
            probe.setblocking(False)
            try:
                probe.connect(_fitting(path, folder))
            except ConnectionRefusedError:
                return True
    return False  # also if it has no room for one more, or is gone just now


def _bind(path: Path, folder: int) -> gsocket.socket:
    sock = gsocket.socket(gsocket.AF_UNIX)
    try:
        sock.bind(_fitting(path, folder))
        # Nobody can connect before `listen`, so that there is no moment with a lax mode.
        path.chmod(0o600)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
