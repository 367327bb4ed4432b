"""Unix sockets as clients leave them behind."""

import os
import socket


def dead(path):
    """A socket at `path` on which nobody listens any more, in a folder of its own if there is none."""
    path.parent.mkdir(exist_ok=True, mode=0o700)
    folder = os.open(path.parent, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f"/proc/self/fd/{folder}/{path.name}")  # the whole path may be too long for the system
        sock.listen()
    os.close(folder)
