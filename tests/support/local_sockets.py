"""Unix sockets as clients leave them behind."""

import socket


def dead(path):
    """A socket at `path` on which nobody listens any more, in a folder of its own if there is none."""
    path.parent.mkdir(exist_ok=True, mode=0o700)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(path))
        sock.listen()
