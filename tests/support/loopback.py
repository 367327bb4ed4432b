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
    with listen(address, port, backlog=0) as one, full(one):
        yield one.getsockname()[1]


@contextlib.contextmanager
def full(listener):
    """The backlog of `listener` is full, until it accepts a connection: the kernel drops each SYN."""
    with contextlib.ExitStack() as fillers:
        while True:
            filler = fillers.enter_context(native.socket())
            filler.settimeout(0.3)
            try:
                filler.connect(listener.getsockname())
            except TimeoutError:
                filler.close()  # or it would take the first place that becomes free
                break
        yield
