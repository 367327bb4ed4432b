"""The path of the control socket, which a client and `lane why` share, and the check of its owner.

Another user may create a folder in /tmp first, under the name that this user's folder has, with a link or a
socket in it. So each end checks the owner of the folder, and `lane why` also checks that of the socket. The
file name has the address on which the client listens, and the network namespace: `127.0.0.1:1080` is a
different address in each namespace, while all may share one /tmp.
"""

import os
import socket
import stat
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Literal

from lane.address import Address
from lane.errors import ConfigError
from lane.text import printable

Where = Path | Literal["auto", "off"]
"""The path of a socket; `auto`: the default path for the client's port; `off`: no socket."""

UNKNOWN = "that can't be asked here"
"""What a process answers to a question that its version does not know."""
BACKLOG = 16
MAX_PATH = 107
"""The longest path of a socket, bytes, without the final NUL (unix(7))."""
MOST_OTHERS = 5
"""The most other clients that are named when one is not found."""
SERVICE = Path("/run/lane")
"""The folder that systemd creates for the shipped unit. Only root can create one in /run."""
_ALL = "client-*:*.sock"
"""Matches all default sockets in a folder."""


class Unfit(Exception):
    """The reason why a path is not used or not trusted."""


def default_path(listen: Address) -> Path:
    """The default socket of a client that listens on `listen`, in its user's own folder."""
    folder = os.environ.get("RUNTIME_DIRECTORY", "").partition(":")[0]  # from systemd
    if not folder and (runtime := os.environ.get("XDG_RUNTIME_DIR")):
        folder = f"{runtime}/lane"
    # Everybody may write to /tmp, so both ends check the folder's owner.
    user = os.geteuid() if hasattr(os, "geteuid") else ""
    return Path(folder or f"/tmp/lane-{user}", _name(listen.host, listen.port))  # noqa: S108


def server_path(state_dir: Path) -> Path:
    """The socket of the server with this state folder, which may be a symbolic link."""
    return state_dir.resolve() / "status.sock"


def find(listen: Address) -> Path:
    """The socket of the client that accepts connections at `listen` in this network namespace.

    The client is this user's or the service's. It may listen on all addresses. `localhost` matches any of its
    addresses, and a client that listens on `localhost` is also found at IPv4's loopback address. If there
    is no such client, the result is this user's default socket.
    """
    path = default_path(listen)
    near = ("127.0.0.1", "::1") if listen.host in ("localhost", "127.0.0.1") else ()
    names = [_name(host, listen.port) for host in (listen.host, *near, "0.0.0.0", "::", "")]
    folders = [folder for folder in (path.parent, SERVICE) if _is_ours(folder)]
    found = (folder / name for name in names for folder in folders)
    return next((one for one in found if os.path.lexists(one)), path)


def connect(sock: socket.socket, path: Path, *, named: bool = False) -> None:
    """Connect to the socket `path`. Raises Unfit if its owner may be another user, or OSError.

    `named`: the user has named its folder. So root trusts its owner, whoever that is. A service may then run
    as another user than the one whom the files belong to: systemd 257 maps them (DynamicUser).
    """
    trusted = named and not os.geteuid()
    with _opened(path.parent) as (folder, owner):
        if not trusted:
            _check_owner(path.parent, owner)
        if path.is_symlink():
            raise Unfit("it is a symbolic link")
        try:
            sock.connect(_fitting(path, folder, exact=trusted))
        except FileNotFoundError as error:
            if not (others := sorted(other.name for other in path.parent.glob(_ALL))):
                raise
            there = printable(", ".join(others[:MOST_OTHERS]))
            raise FileNotFoundError(error.errno, f"{error.strerror}, beside {there}") from None
    if not trusted and hasattr(socket, "SO_PEERCRED"):  # the folder may have been replaced since the check
        _, user, _ = struct.unpack("=iII", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
        if user not in (0, os.geteuid(), owner):
            raise Unfit("another user listens there")


def listen_at(path: Path) -> tuple[socket.socket, tuple[int, int]]:
    """Open a listening socket that only its owner may use. Return it and its file's identity.

    Raises ConfigError.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError("Python has no Unix sockets on this system")
    import fcntl  # noqa: PLC0415 - nor has it this, then

    try:
        with suppress(FileExistsError):
            path.parent.mkdir(mode=0o700)
        with _opened(path.parent) as (folder, owner):
            if owner != os.geteuid():
                raise Unfit("its folder belongs to another user")
            # Lock the folder for these few calls. Two processes would take each other's socket for stale.
            fcntl.flock(folder, fcntl.LOCK_EX)
            _make_room(path, folder)
            return _bind(path, folder), identity(path)
    except OSError as error:
        raise ConfigError(f"cannot listen on {path}: {error.strerror or error}") from None
    except Unfit as error:
        raise ConfigError(f"cannot listen on {path}: {error}") from None


def remove(path: Path, file: tuple[int, int] | None) -> None:
    """Remove the socket at `path`, unless another process has replaced `file` there."""
    with suppress(OSError):
        if identity(path) == file:
            path.unlink()


def identity(path: Path) -> tuple[int, int]:
    """The file's device and inode, which identify it. Raises OSError."""
    info = path.lstat()
    return info.st_dev, info.st_ino


def _name(host: str, port: int) -> str:
    network = ""
    with suppress(OSError):  # Linux only
        network = f"-{os.stat('/proc/self/ns/net').st_ino:x}"
    return f"client-{host}:{port}{network}.sock"


def _is_ours(folder: Path) -> bool:
    """Whether the content of `folder` is trusted."""
    if not hasattr(os, "O_DIRECTORY"):  # Windows, where nobody listens either
        return False
    with suppress(OSError, Unfit), _opened(folder) as (_, owner):
        _check_owner(folder, owner)
        return True
    return False


def _check_owner(folder: Path, owner: int) -> None:
    """Raises Unfit if another user may have created the files in `folder`."""
    given = os.geteuid() == 0 and folder.parent == SERVICE.parent  # systemd gave it to the user of a unit
    if owner not in (0, os.geteuid()) and not given:
        raise Unfit("its folder belongs to another user")


@contextmanager
def _opened(folder: Path) -> Iterator[tuple[int, int]]:
    """Open `folder`. Return a descriptor and its owner.

    Raises Unfit if it is a link or if other users may write to it, or OSError.
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


def _fitting(path: Path, folder: int, *, exact: bool = False) -> str:
    """A path of the socket that the system accepts, even if `path` is too long. `folder`: its descriptor.

    `exact`: the one in that folder, also if another one has its name now.
    """
    long = exact or len(os.fsencode(path)) > MAX_PATH
    return f"/proc/self/fd/{folder}/{path.name}" if long and os.path.exists("/proc/self/fd") else str(path)


def _make_room(path: Path, folder: int) -> None:
    """Remove the socket of a dead client. At a default path, remove those of all dead clients.

    Otherwise some would stay forever, since the number of a network namespace may never be used again.
    """
    for other in path.parent.glob(_ALL) if path.match(_ALL) else [path]:
        if _is_dead(other, folder):
            other.unlink(missing_ok=True)
    with suppress(FileNotFoundError):
        if stat.S_ISSOCK(path.lstat().st_mode):
            raise Unfit("another process listens there")
        raise Unfit("there is a file that is no socket")


def _is_dead(path: Path, folder: int) -> bool:
    """Whether `path` is a socket on which nobody listens."""
    with suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
        if stat.S_ISSOCK(path.lstat().st_mode):
            probe.setblocking(False)
            try:
                probe.connect(_fitting(path, folder))
            except ConnectionRefusedError:
                return True
    return False  # also if its queue is full, or if it was just removed


def _bind(path: Path, folder: int) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.bind(_fitting(path, folder))
        # Nobody can connect before `listen`, so the mode is never too open.
        path.chmod(0o600)
        sock.listen(BACKLOG)
    except BaseException:
        sock.close()
        raise
    return sock
