"""Hides what other systems don't have, to see whether lane runs without it.

    python -m tests.support.elsewhere macos|windows python -m lane ARGUMENTS...

runs lane with these arguments; in place of `python -m lane ...`, `--import MODULE ...` imports modules. What
Windows lacks is hidden from lane alone: the libraries are imported
before, since their other code for that system is not here.
"""

import importlib
import mmap
import os
import select
import signal
import socket
import sys
from types import ModuleType

_MODULES = {"lane_quic.fastpath.native"}
"""The compiled part: there may be no compiler."""
_LINUX_SOCKETS = (
    "AF_NETLINK AF_PACKET AF_VSOCK AF_ALG NETLINK_ROUTE SOCK_CLOEXEC SOCK_NONBLOCK SO_DOMAIN SO_PROTOCOL"
    " SO_PEERCRED SO_PASSCRED SO_BINDTODEVICE SO_MARK SO_INCOMING_CPU SO_PRIORITY TCP_INFO TCP_CONGESTION"
    " TCP_USER_TIMEOUT TCP_QUICKACK TCP_DEFER_ACCEPT TCP_CORK TCP_SYNCNT TCP_LINGER2 TCP_WINDOW_CLAMP"
    " TCP_KEEPIDLE MSG_ERRQUEUE MSG_CMSG_CLOEXEC MSG_CONFIRM MSG_MORE IP_TRANSPARENT IP_BIND_ADDRESS_NO_PORT"
)
_LINUX_SYSTEM = (
    "sched_getaffinity sched_setaffinity memfd_create eventfd pidfd_open splice copy_file_range pipe2"
    " getrandom setns unshare listxattr posix_fadvise O_TMPFILE O_PATH GRND_NONBLOCK"
)
_UNIX_MODULES = {"fcntl", "termios", "pwd", "grp", "resource", "syslog", "tty", "pty"}
_UNIX_SYSTEM = (
    "fork geteuid getuid getegid getgid O_DIRECTORY O_NOFOLLOW O_NONBLOCK mkfifo sysconf register_at_fork"
    " fchmod fchown chown WNOHANG"
)
_UNIX_SIGNALS = "SIGHUP SIGUSR1 SIGUSR2 SIGCHLD SIGALRM SIGPIPE SIGKILL setitimer pthread_sigmask"


def hide(system: str) -> None:
    """Hide what `system`, macos or windows, does not have."""
    windows = system == "windows"
    if windows:
        for name in ("gevent.socket", "gevent.threadpool", "gevent.os", "gevent.queue", "gevent.lock"):
            importlib.import_module(name)
        for name in ("subprocess", "tempfile", "ctypes", "logging.handlers", "OpenSSL.SSL", "aioquic.quic"):
            importlib.import_module(name)
        for name in ("configargparse", "pluggy", "importlib.metadata", "dns.message", "asyncio"):
            importlib.import_module(name)
    for name in _MODULES | (_UNIX_MODULES if windows else set()):
        sys.modules[name] = None  # type: ignore[assignment]
    unix = "AF_UNIX SO_REUSEPORT MSG_DONTWAIT CMSG_SPACE CMSG_LEN SCM_RIGHTS send_fds recv_fds"
    _remove(socket, _LINUX_SOCKETS + (f" {unix}" if windows else ""))
    _remove(os, _LINUX_SYSTEM + (f" {_UNIX_SYSTEM}" if windows else ""))
    _remove(select, "epoll" + (" poll" if windows else ""))
    _remove(mmap, "MAP_POPULATE MAP_STACK MAP_NORESERVE" + (" MAP_SHARED MAP_ANONYMOUS" if windows else ""))
    if windows:
        _remove(signal, _UNIX_SIGNALS)


def _remove(module: ModuleType, names: str) -> None:
    public = getattr(module, "__all__", [])
    for name in names.split():
        if hasattr(module, name):
            delattr(module, name)
        if name in public:
            public.remove(name)


if __name__ == "__main__":
    hide(sys.argv[1])
    if sys.argv[2] == "--import":
        for name in sys.argv[3:]:
            importlib.import_module(name)
    else:
        sys.argv[:] = sys.argv[sys.argv.index("lane") :]
        importlib.import_module("lane.__main__").main()
