"""The TLS secrets of connections for Wireshark, in the file named by SSLKEYLOGFILE.

aioquic writes them in the middle of a handshake. So a full disk must not end a connection.
"""

import logging
import os

from lane.errors import ConfigError

log = logging.getLogger("lane.quic")


class KeyLog:
    """Appends to a file. If a write fails, its secret is lost, with one warning. Raises ConfigError."""

    def __init__(self, name: str) -> None:
        self._name, self._warned = name, False
        try:
            self._file = os.open(name, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(f"SSLKEYLOGFILE: {name}: {error.strerror}") from None

    def write(self, line: str) -> None:
        """Write a secret, as a line in the NSS format. Called by aioquic."""
        try:
            os.write(self._file, line.encode("ascii"))
        except OSError as error:
            if not self._warned:
                self._warned = True
                log.warning(
                    "SSLKEYLOGFILE: %s: %s: some secrets were not written", self._name, error.strerror
                )

    def flush(self) -> None:
        """Do nothing: no line is buffered. Called by aioquic."""

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)
