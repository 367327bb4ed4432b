"""A stranger's machine between a client and its server: it passes TCP connections on."""

import socket
import threading
from contextlib import suppress

DEADLINE = 100.0


class Middleman:
    """Listens at `address`, and passes connections on to `server` from the address `source`.

    While `deaf`, what the server says on existing connections stays here. `refuses`: new connections are
    closed at once. Both may change at any time, and `source` too.
    """

    def __init__(self, server, source):
        self.server = server
        self.source = source
        self.deaf = self.refuses = False
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = self._listener.getsockname()
        self._socks = {self._listener}
        self._thread = threading.Thread(target=self._accept, daemon=True)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        for sock in [*self._socks]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def cut(self):
        """Reset all connections; new ones may be made at once."""
        for sock in [*self._socks - {self._listener}]:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)

    def _accept(self):
        with suppress(OSError):  # the end
            while True:
                near = self._listener.accept()[0]
                if self.refuses:
                    near.close()
                    continue
                far = socket.create_connection(self.server, DEADLINE, (self.source, 0))
                self._socks |= {near, far}
                for pair in ((near, far), (far, near)):
                    threading.Thread(target=self._pass_on, args=(*pair, pair[0] is far), daemon=True).start()

    def _pass_on(self, source, to, from_server):
        with suppress(OSError):
            while data := source.recv(65536):
                if not (from_server and self.deaf):
                    to.sendall(data)
        for sock in (source, to):
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
            self._socks.discard(sock)
