"""The secrets of connections for Wireshark, in the file that SSLKEYLOGFILE names.

aioquic writes them in the middle of a handshake: a disk that is full must not end a connection.
"""

import logging
import os

from lane.errors import ConfigError

log = logging.getLogger("lane.quic")


class KeyLog:
    """Appends to a file; what can't be written is lost, with one warning. Raises ConfigError."""

    def __init__(self, name: str) -> None:
        self._name, self._warned = name, False
        try:
            self._file = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"SSLKEYLOGFILE: {name}: {error.strerror}") from None

    def write(self, line: str) -> None:
        """Called by aioquic for each secret, with a line in the format of NSS."""
        try:
            os.write(self._file, line.encode("ascii"))
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning("SSLKEYLOGFILE: %s: %s: secrets are missing there", self._name, error.strerror)

    def flush(self) -> None:
        """Called by aioquic; nothing waits."""

    def close(self) -> None:
        """End it."""
        os.close(self._file)
