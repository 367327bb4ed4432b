"""What the tests of frozen sessions have in place of carriers."""

import gevent

from lane.errors import Unreachable


class Held:
    """A stream that takes everything, and has `data` to read."""

    def __init__(self, data):
        self.data = data

    def recv(self, limit):
        data, self.data = self.data, b""
        while not data:
            gevent.sleep(1.0)
        return data

    def sendall(self, data):
        pass

    finish = close = lambda self: None

    def reset(self, code=0):
        pass


class LostPool:
    """A pool that makes no carrier."""

    shared = ready = False

    def lease(self, **_):
        raise Unreachable("the network is down")

    def lease_at_once(self):
        return None

    def close(self):
        pass
