"""qlog traces of connections, packet by packet, for tools such as qvis (https://qvis.quictools.info).

aioquic keeps all events in memory until a connection ends. Here each event is written to a file at once, in
the streaming format of qlog (draft-ietf-quic-qlog-main-schema-02, section 3.2: JSON text sequences, RFC
7464).
"""

import json
import logging
import time
from pathlib import Path
from typing import Any

from aioquic.quic.logger import QLOG_VERSION, QuicLogger, QuicLoggerTrace

from lane.errors import ConfigError
from lane_quic.internals.parts import EventTrace

log = logging.getLogger("lane.quic")

MOST_BYTES = 256 << 20
"""The most bytes of one file. Later events are not written."""
_SEPARATOR = "\x1e"


class Qlog(QuicLogger):
    """Writes one file for each connection. Raises ConfigError if the folder is not writable."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / ".lane-can-write"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise ConfigError(f"--qlog-dir: {folder}: {error.strerror}") from None

    def start_trace(self, is_client: bool, odcid: bytes) -> QuicLoggerTrace:
        """Start the trace of a connection. Called by aioquic."""
        who = "client" if is_client else "server"
        name = f"{time.strftime('%Y%m%d-%H%M%S')}-{odcid.hex()}-{who}.sqlog"
        return Trace(self._folder / name, is_client=is_client, odcid=odcid)

    def end_trace(self, trace: QuicLoggerTrace) -> None:
        """End the trace of a connection that ends cleanly. Called by aioquic."""
        if isinstance(trace, Trace):
            trace.close()


class Trace(EventTrace):
    """The file of one connection. A full disk ends the file and not the connection."""

    def __init__(self, path: Path, *, is_client: bool, odcid: bytes) -> None:
        super().__init__(is_client=is_client, odcid=odcid)
        self._left = MOST_BYTES
        self._began = time.time()
        try:
            self._file: Any = path.open("w")
        except OSError as error:
            log.warning("no qlog: %s: %s", path, error.strerror)
            self._file = None
        trace = {
            "vantage_point": {"name": "lane", "type": self.vantage_point["type"]},
            "common_fields": {
                "ODCID": odcid.hex(),
                "time_format": "relative",
                "reference_time": self.encode_time(self._began),
            },
        }
        self._write({"qlog_version": QLOG_VERSION, "qlog_format": "JSON-SEQ", "trace": trace})

    def log_event(self, *, category: str, event: str, data: dict[str, Any]) -> None:
        """Add an event. Called by aioquic, which later adds frames to `data`. So `flush` writes it."""
        at = self.encode_time(time.time() - self._began)
        self.events.append({"time": at, "name": f"{category}:{event}", "data": data})

    def flush(self) -> None:
        """Write the events of one received datagram, or of the packets that were sent together."""
        while self.events:
            self._write(self.events.popleft())

    def _write(self, record: dict[str, Any]) -> None:
        if self._file is None:
            return
        text = f"{_SEPARATOR}{json.dumps(record, separators=(',', ':'))}\n"
        self._left -= len(text)
        try:
            if self._left >= 0:
                self._file.write(text)
        except OSError as error:
            log.warning("the qlog ends: %s", error.strerror)
            self._file = None

    def close(self) -> None:
        """Write the remaining events and close the file. Idempotent."""
        self.flush()
        if self._file is not None:
            file, self._file = self._file, None
            try:
                file.close()
            except OSError as error:
                log.warning("the qlog ends: %s", error.strerror)


def log_metrics(trace: Any, loss: Any) -> None:
    """Add an event with the measurements of the path in `loss`, after packets were sent."""
    data: dict[str, Any] = {
        "bytes_in_flight": loss.bytes_in_flight,
        "congestion_window": min(loss.congestion_window, 1 << 53),  # the largest exact integer in JSON
    }
    if loss.rtt is not None:
        data |= {"smoothed_rtt": trace.encode_time(loss.rtt), "min_rtt": trace.encode_time(loss.least_rtt)}
    if loss.pacer.rate is not None:
        data["pacing_rate"] = int(loss.pacer.rate * 8)
    trace.log_event(category="recovery", event="metrics_updated", data=data)
