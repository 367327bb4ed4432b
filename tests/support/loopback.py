"""Listeners on loopback, and addresses that do not answer."""

import contextlib
import socket as native

from gevent import socket


def listen(address, port=0, backlog=16):
    listener = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    try:
        listener.bind((address, port))
        listener.listen(backlog)
    except OSError:
        listener.close()
        raise
    return listener


@contextlib.contextmanager
def deaf(address, port=0):
    """A port at `address` that does not answer: a listener's whose backlog is full."""
    with listen(address, port, backlog=0) as one:
        fillers = []
        try:
            while True:
                fillers.append(native.socket())
                fillers[-1].settimeout(0.3)
                fillers[-1].connect(one.getsockname())
        except TimeoutError:
            yield one.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()
