"""Flow control: QUIC's receive windows grow with the bytes that were read.

aioquic's windows grow with the received bytes. Then data that nobody reads would have no bound. The windows
here stay larger than the session's own window, so that they do not limit it.
"""

from typing import Any

from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.packet import QuicFrameType

from lane_quic.engine.keys import KeyUpdate
from lane_quic.engine.stream_table import StreamTable

STREAMS = 128
"""Streams that a client may open on one connection. RFC 9114 section 6.1 wants at least 100. They share its
window, and a dead path ends them all. A second one has as much of the line (lane/carriers/crowding.py)."""
MAX_STREAM_WINDOW = 32 << 20
"""The largest receive window of a stream, bytes."""
MAX_CONNECTION_WINDOW = 64 << 20
"""The largest receive window of a connection, bytes."""
GROWTH = 16
"""The ratio of a window to the bytes that were consumed."""
_SERVER_FLOORS = (65536, 65536)  # stream, connection: bytes an unauthenticated peer can make the server hold
_CLIENT_FLOORS = (4 << 20, 16 << 20)  # stream, connection: bytes


class FlowControl(KeyUpdate):
    """A connection whose windows grow with the bytes consumed."""

    __slots__ = ("_consumed", "_floor", "_look_at", "_stream_floor")

    def __init__(
        self, configuration: QuicConfiguration, original_cid: bytes | None, retry_cid: bytes | None
    ) -> None:
        stream_floor, floor = _CLIENT_FLOORS if configuration.is_client else _SERVER_FLOORS
        configuration.max_stream_data, configuration.max_data = stream_floor, floor
        super().__init__(
            configuration=configuration,
            original_destination_connection_id=original_cid,
            retry_source_connection_id=retry_cid,
        )
        self._stream_floor, self._floor = stream_floor, floor
        self.streams: StreamTable = StreamTable()
        self._consumed = self._look_at = 0
        self.abandoned = {}
        streams = 0 if configuration.is_client else STREAMS
        for limit, value in ((self.local_max_streams_bidi, streams), (self.local_max_streams_uni, 0)):
            limit.value = limit.sent = value

    def send_stream_data(self, stream_id: int, data: bytes, end_stream: bool = False) -> None:
        """Write as aioquic does. Who may write to a stream with state here was checked when it was opened."""
        stream = self.streams.get(stream_id)
        if stream is None:
            self.said_all = False  # it may have to say that the peer allows no more streams
            super().send_stream_data(stream_id, data, end_stream)
        else:
            stream.sender.write(data, end_stream)

    def consume(self, stream_id: int, size: int, total: int) -> bool:
        """Note that `size` bytes of a stream were read, `total` so far. Return whether new credit is due."""
        self._consumed += size
        due = self._consumed >= self._look_at and self.raise_connection_limit()
        stream = self.streams.get(stream_id)
        if stream is not None and total >= stream.look_at and not stream.receiver.is_finished:
            window = _window(total, self._stream_floor, MAX_STREAM_WINDOW)
            if total + window - stream.max_stream_data_local >= window // 4:
                stream.max_stream_data_local = total + window
                self.streams.with_credit[stream_id] = stream
                self.said_all, due = False, True
            stream.look_at = _next_look(total, stream.max_stream_data_local, window)
        return due

    def abandon(self, stream_id: int, total: int, unread: int) -> None:
        """Note that nobody will read the stream again. All its data counts as consumed, also later data.

        `total` bytes of it were read. `unread` bytes were handed out by events and not read.
        """
        stream = self.streams.get(stream_id)
        if stream is None:
            self._consumed += unread
        elif stream_id not in self.abandoned:
            self.abandoned[stream_id] = total
            self.said_all = False

    def raise_connection_limit(self) -> bool:
        for stream_id, counted in list(self.abandoned.items()):
            stream = self.streams.get(stream_id)
            if stream is not None:
                self._consumed += stream.receiver.highest_offset - counted
                self.abandoned[stream_id] = stream.receiver.highest_offset
            if stream is None or stream.receiver.is_finished:
                del self.abandoned[stream_id]
        window = _window(self._consumed, self._floor, MAX_CONNECTION_WINDOW)
        limit = self.local_max_data
        due: bool = self._consumed + window - limit.value >= window // 4
        if due:
            limit.value = self._consumed + window
            self.said_all = False
        self._look_at = _next_look(self._consumed, limit.value, window)
        return due

    def write_connection_limits(self, builder: Any, space: Any) -> None:
        if self.abandoned:
            self.raise_connection_limit()
        data, streams = self.local_max_data, self.local_max_streams_bidi
        # MAX_STREAMS is sent once the peer has fewer streams left than the update grants.
        few = streams.sent - streams.used < streams.value - streams.sent
        for limit, due in ((data, data.value != data.sent), (streams, few)):
            if due:
                buf = builder.start_frame(
                    limit.frame_type,
                    capacity=1 + 8,
                    handler=self.on_connection_limit_delivery,
                    handler_args=(limit,),
                )
                buf.push_uint_var(limit.value)
                limit.sent = limit.value

    def on_max_stream_data_delivery(self, delivery: Any, stream: Any) -> None:
        super().on_max_stream_data_delivery(delivery, stream)
        if stream.max_stream_data_local_sent != stream.max_stream_data_local:  # the frame was lost
            self.streams.with_credit[stream.stream_id] = stream

    def write_stream_limits(self, builder: Any, space: Any, stream: Any) -> None:
        buf = builder.start_frame(
            QuicFrameType.MAX_STREAM_DATA,
            capacity=1 + 8 + 8,
            handler=self.on_max_stream_data_delivery,
            handler_args=(stream,),
        )
        buf.push_uint_var(stream.stream_id)
        buf.push_uint_var(stream.max_stream_data_local)
        stream.max_stream_data_local_sent = stream.max_stream_data_local
        self.streams.with_credit.pop(stream.stream_id, None)


def _window(consumed: int, floor: int, most: int) -> int:
    """The window after `consumed` bytes: it grows with them, from `floor` to `most`.

    The session has its own window. This one may limit it for one round trip at most.
    """
    return min(most, max(floor, GROWTH * consumed))


def _next_look(consumed: int, limit: int, window: int) -> int:
    """The consumed bytes before which a `limit` cannot be due for a raise, however the `window` grows."""
    lacking = limit - consumed - window + window // 4
    return consumed + (lacking - 1) // (1 + GROWTH * 3 // 4)
