"""A stand-in for systemd's descriptor store: the protocols of sd_notify(3) and sd_listen_fds(3)."""

import array
import os
import socket
import sys
import threading
from contextlib import suppress

_LAUNCHER = """
import array, os, socket, sys
path, *command = sys.argv[1:]
with socket.socket(socket.AF_UNIX) as sock:
    sock.connect(path)
    names, fds = b"", []
    while True:
        part, ancillary, _, _ = sock.recvmsg(65536, 65536)
        for _, _, raw in ancillary:
            fds += array.array("i", raw)
        if not part:
            break
        names += part
count = len(fds)
high = [os.dup2(fd, 2000 + at) for at, fd in enumerate(fds)]
for at, fd in enumerate(high):
    os.dup2(fd, 3 + at)
os.closerange(3 + count, 2000 + count)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(count), "LISTEN_FDNAMES": names.decode()}
if not count:
    del os.environ["LISTEN_PID"]
os.execv(command[0], command)
"""


class ServiceManager:
    """Keeps descriptors in `stored`, by name. `said` has all other messages."""

    def __init__(self, folder, most=1000):
        self.stored = {}
        self.said = []
        self.environment = {"NOTIFY_SOCKET": str(folder / "notify"), "FDSTORE": str(most)}
        self._most = most
        self._notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._notify.bind(self.environment["NOTIFY_SOCKET"])
        self._spawn = socket.socket(socket.AF_UNIX)
        self._spawn.bind(str(folder / "spawn"))
        self._spawn.listen()
        self.prefix = [sys.executable, "-c", _LAUNCHER, str(folder / "spawn")]
        """The command in front of a service's own."""
        for task in (self._take, self._pass):
            threading.Thread(target=task, daemon=True).start()

    def close(self):
        for sock in (self._notify, self._spawn):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
        for one in self.stored.values():
            os.close(one)

    def _take(self):
        with suppress(OSError):
            while True:
                text, ancillary, _, _ = self._notify.recvmsg(4096, 4096)
                if not text:
                    return
                fields = dict(line.partition("=")[::2] for line in text.decode().splitlines())
                for _, _, raw in ancillary:
                    for one in array.array("i", raw):
                        if len(self.stored) >= self._most:
                            os.close(one)
                        else:
                            self.stored[fields["FDNAME"]] = one
                if "FDSTOREREMOVE" in fields:
                    os.close(self.stored.pop(fields["FDNAME"]))
                if "FDSTORE" not in fields:
                    self.said.append(text.decode())

    def _pass(self):
        with suppress(OSError):
            while True:
                sock, _ = self._spawn.accept()
                with sock:
                    stored = [*self.stored.items()]
                    for at in range(0, len(stored), 200):
                        some = stored[at : at + 200]
                        names = ":".join(name for name, _ in some) + (":" if at + 200 < len(stored) else "")
                        rights = array.array("i", [one for _, one in some])
                        sock.sendmsg([names.encode()], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
