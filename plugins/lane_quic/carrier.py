"""A QUIC connection as a carrier: the engine, its timer and its streams.

Nothing here blocks on the network. An endpoint (endpoint.py, listener.py) passes received datagrams in, and
the engine's packets are sent with `send`. Greenlets block only on their own stream. Everything written in
one turn of the event loop is flushed once, at its end, so that small writes share packets.

A failure ends only its own connection. Each entry point (the endpoint, a timer, the event loop) reports
failures to `fail`. `fail` completes all its steps even if one of them fails.
"""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from math import inf
from time import monotonic
from typing import Any

import gevent
from aioquic.quic import events
from aioquic.quic.events import DatagramFrameReceived, StreamDataReceived
from gevent.event import Event

from lane.errors import Closed, Failure, LaneError, Refused
from lane.stream import ClientTLS, LinkStats
from lane_quic.engine.datagrams import QuicDatagrams
from lane_quic.engine.engine import Engine
from lane_quic.stream import QuicStream
from lane_quic.udp.offload import Datagrams
from lane_quic.udp.udp import GATHER_HURRIED, GATHER_MOST

log = logging.getLogger("lane.quic")

KEEPALIVE = 12.0
"""Seconds without a received packet after which a client with open streams sends a keepalive. It can be lost
several times before the idle time-out of 20 s."""

PROBE_PAUSE = 1.0
"""Seconds between two probes of a peer that may be dead."""
MAX_WAITING = 128
"""Streams that wait to be accepted. The stream limit does not bound them: a peer may reset what it opens."""

Path = Any  # what the endpoint needs to reach the peer; aioquic only compares it


class QuicCarrier:
    """One connection. `send(datagrams)` hands packets to the endpoint and must not block.

    Callbacks: `on_cid(cid, used)` when the peer may use a connection ID, or no longer may; `on_ready()` when
    the handshake is done; `on_proven()` when the peer has proven a key; `on_end()` when the connection has
    ended; `on_silence()` now and then while answers are overdue.
    """

    def __init__(
        self,
        engine: Engine,
        send: Callable[[Datagrams], None],
        peer: str,
        *,
        binding: bytes = b"",
        on_cid: Callable[[bytes, bool], None] = lambda cid, used: None,
        on_end: Callable[[], None] = lambda: None,
        on_ready: Callable[[], None] = lambda: None,
        on_proven: Callable[[], None] = lambda: None,
        on_silence: Callable[[], None] = lambda: None,
    ) -> None:
        self.engine = engine
        self.peer = peer
        self.binding = binding
        self.waiting: set[QuicStream] = set()
        self.ready = Event()  # the handshake is done, or the connection has ended
        self.heard: float | None = None
        self.connected = False
        self._patience = GATHER_MOST  # seconds that the peer's next packets may be gathered
        self._send = send
        self._on_cid = on_cid
        self._on_end = on_end
        self._on_ready = on_ready
        self._on_proven = on_proven
        self._on_silence = on_silence
        self._failure: Failure[LaneError] | None = None
        self._streams: dict[int, QuicStream] = {}
        self._incoming: list[QuicStream] = []  # streams that wait to be accepted
        self._arrived = Event()  # there is one, or the connection has ended
        self._next_incoming = int(engine.configuration.is_client)
        self._drained: Event | None = None  # set when `close` waits for the streams to drain
        self._probed = -inf
        self._hub: Any = gevent.get_hub()
        self._timer = self._hub.loop.timer(0)
        self._timer_at: float | None = None
        self._keepalive = self._hub.loop.timer(KEEPALIVE)
        self._flushing = False
        engine.wake = self.flush_soon

    # The carrier contract.

    @property
    def capacity(self) -> int:
        """See `lane.stream.Carrier`."""
        return 0 if self.closed else self.engine.capacity

    @property
    def closed(self) -> bool:
        """See `lane.stream.Carrier`."""
        return self._failure is not None

    @property
    def datagrams(self) -> QuicDatagrams | None:
        """See `lane.stream.Carrier`. The handshake says whether the peer accepts datagrams."""
        return self.engine.datagrams if self.engine.datagrams.max_size else None

    @property
    def error(self) -> LaneError | None:
        """The reason why the connection has ended; None while it is open."""
        return self._failure.build() if self._failure else None

    @property
    def has_more(self) -> bool:
        """See `lane.stream.Paces`: a stream waits until its data are sent."""
        return bool(self.waiting)

    def belong(self, user: str) -> None:
        """See `lane.stream.Paces`."""

    def pace(self, rate: float | None) -> None:
        """See `lane.stream.Paces`. It takes effect with the next ACK."""
        self.engine.loss.pacer.most = inf if rate is None else max(rate, 1.0)

    def proven(self) -> None:
        """See `lane.stream.Proves`."""
        self._on_proven()

    def open(self) -> QuicStream:
        """See `lane.stream.Carrier`."""
        if self._failure or not self.engine.capacity:
            raise Closed(str(self._failure) if self._failure else "the connection has no more streams")
        stream_id = self.engine.get_next_available_stream_id()
        self.engine.send_stream_data(stream_id, b"")  # this reserves the ID
        stream = self._streams[stream_id] = QuicStream(self, stream_id)
        self._hurry(monotonic())
        return stream

    def _hurry(self, now: float) -> None:
        """Let short messages wait less for bulk transfers: somebody waits for a stream that is new."""
        self._patience = min(self._patience, GATHER_HURRIED)
        if self.waiting:
            self.engine.loss.pacer.hurry(now)

    def accept(self) -> QuicStream:
        """See `lane.stream.Carrier`."""
        while not self._incoming:
            if self._failure:
                raise Closed(str(self._failure))
            self._arrived.clear()
            self._arrived.wait()  # no limit: the peer may open none; the end of the carrier is one
        return self._incoming.pop(0)

    def when_heard(self, callback: Callable[[], None]) -> None:
        """See `lane.stream.Rings`."""
        self._arrived.rawlink(lambda _: callback())

    def stats(self) -> LinkStats:
        """See `lane.stream.Carrier`."""
        return self.engine.stats()

    def close(self, grace: float = 0) -> None:
        """See `lane.stream.Carrier`."""
        deadline = monotonic() + grace
        while not self._failure and not self.engine.drained() and (left := deadline - monotonic()) > 0:
            self._drained = self._drained or Event()
            self._drained.clear()
            self._drained.wait(left)
        self.shut("closed on this side")

    # Called by the endpoint.

    def start(self, tls: ClientTLS, address: Path) -> None:
        """Begin a client's handshake with the server at `address`."""
        self._tls = tls
        self.engine.connect(address, now=monotonic())
        self._keepalive.start(self._keep_alive)
        self.flush()

    def receive(self, datagrams: Sequence[bytes], path: Path, now: float) -> None:
        """Process datagrams that arrived together. `act` must follow. An exception ends this connection."""
        self.heard = now
        try:
            self.engine.receive_datagrams(datagrams, path, now)
        except Exception:
            self._broke("a packet")

    def act(self) -> float:
        """Handle the received events. Whatever they cause is sent at the end of this turn, in one flush.

        There is no flush if nothing is to be sent. Return how long the next datagrams may be gathered.
        """
        now, engine, at = self.heard or 0.0, self.engine, None
        try:
            self._handle_events()
            if not (engine.acked and (self.waiting or self._drained is not None)):  # for whom an ACK is news
                at = engine.quiet_until(now)
        except Exception:
            self._broke("what was received")
        if at is None:
            self.flush_soon()
        else:
            self._arm(at, now)
        patience, self._patience = self._patience, GATHER_MOST
        return patience

    def flush_soon(self) -> None:
        """Flush at the end of this turn of the event loop."""
        if not self._flushing:
            self._flushing = True
            self._hub.loop.run_callback(self.flush)

    def flush(self) -> None:
        """Handle the events, send the packets that are due, and set the timer."""
        self._flushing = False
        if self._failure:
            return
        now, engine = monotonic(), self.engine
        stirred = engine.stirred
        try:
            if engine.events:
                self._handle_events()
            if datagrams := engine.trains_to_send(now):
                self._send(datagrams)
                if engine.events:
                    self._handle_events()
            if stirred and (ended := engine.ended_by_peer) is not None:  # aioquic reports it much later
                self.fail(ended)
            if self.waiting:
                limit = engine.unsent_limit // 2
                for stream in list(self.waiting):
                    stream.wake_writer(limit)
            else:
                engine.note_idle()
            if self._timer_at is None or not engine.timer_stays:
                self._arm(engine.get_timer(), now)
        except Exception:
            self._broke("what is to be sent")
        if self._drained is not None:
            self._drained.set()

    def probe(self) -> None:
        """Send a packet that the peer must answer, because it may be dead."""
        now = monotonic()
        if now - self._probed >= PROBE_PAUSE:
            self._probed = now
            self._ask(now)

    def _ask(self, now: float) -> None:
        if self._failure:
            return
        try:
            self.engine.probe(now)
        except Exception:
            self._broke("a probe")
        self.flush()

    def fail(self, error: LaneError) -> None:
        """End the connection. All greenlets that wait on it receive `error`."""
        if self._failure is not None:
            return
        self._failure = Failure.of(error)
        for step in (partial(self._wake_all, error), partial(self._close_engine, error), self._on_end):
            try:
                step()
            except Exception:
                log.exception("ending the connection with %s failed", self.peer)
        self._hub.loop.run_callback(self.engine.let_go)  # the caller may be the engine

    def _wake_all(self, error: LaneError) -> None:
        self._timer.close()
        self._keepalive.close()
        self.ready.set()
        if self._drained is not None:
            self._drained.set()
        self._arrived.set()
        for stream in list(self._streams.values()):
            stream.fail(error)
        self._streams.clear()

    def _close_engine(self, error: LaneError) -> None:
        self.engine.datagrams.fail(error)
        self.engine.close_trace()
        log.debug("the connection with %s ended: %s; %s", self.peer, error, self.engine.stats())

    def _broke(self, what: str) -> None:
        """Log the current exception, which is a bug in lane, and end the connection."""
        log.exception("the connection with %s failed: %s", self.peer, what)
        self.fail(Closed("internal error in the QUIC engine"))

    def shut(self, reason: str, error: LaneError | None = None) -> None:
        """Send a close frame with `reason` to the peer, and end the connection."""
        if self._failure:
            return
        try:
            self.engine.close(reason_phrase=reason)
        except Exception:
            self._broke("its end")
        self.flush()
        self.fail(error or Closed(reason))

    def forget(self, stream: QuicStream) -> bool:
        """Drop a stream. False if it was dropped before."""
        return self._streams.pop(stream.id, None) is not None

    def _arm(self, at: float | None, now: float) -> None:
        """Let the timer fire at `at` or earlier. Moving it to a later time is not worth a system call."""
        if self._failure or at is None or (self._timer_at is not None and self._timer_at <= at):
            return
        self._timer.close()
        self._timer_at = at
        self._timer = self._hub.loop.timer(max(0.0, at - now))
        self._timer.start(self._on_timer, update=True)

    def _on_timer(self) -> None:
        self._timer_at = None
        now = monotonic()
        try:
            due = self.engine.get_timer()
            if due is not None and now < due:  # it was moved to a later time
                self._arm(due, now)
                return
            if due is not None:
                self.engine.handle_timer(now=now)
                if self.connected and self.engine.silent:
                    self._on_silence()
        except Exception:
            self._broke("a timer")
        self.flush()

    def _keep_alive(self) -> None:
        now = monotonic()
        wait = KEEPALIVE - (now - (self.heard or 0)) if self._streams else KEEPALIVE
        if wait <= 0:
            self._ask(now)
        if self._failure is None:
            self._keepalive.close()
            self._keepalive = self._hub.loop.timer(wait if wait > 0 else KEEPALIVE)
            self._keepalive.start(self._keep_alive, update=True)

    def _handle_events(self) -> None:
        while not self._failure and (events := self.engine.take_events()):
            for event in events:
                kind, stream = type(event), None
                if kind is StreamDataReceived:
                    stream = self._streams.get(event.stream_id)
                if stream is not None:  # nearly always
                    stream.received(event.data, event.end_stream)
                elif kind is DatagramFrameReceived:
                    self._patience = 0.0
                    self.engine.datagrams.received(event.data)
                else:
                    self._handle(event)
                if self._failure:
                    break

    def _handle(self, event: events.QuicEvent) -> None:
        match event:
            case events.StreamDataReceived():
                if (stream := self._stream(event.stream_id)) is not None:
                    stream.received(event.data, event.end_stream)
            case events.StreamReset():
                if (stream := self._stream(event.stream_id)) is not None:
                    stream.was_reset(event.error_code)
            case events.StopSendingReceived():
                if (stream := self._stream(event.stream_id)) is not None:
                    stream.was_stopped(event.error_code)
            case events.HandshakeCompleted():
                self._verify()
            case events.ConnectionIdIssued():
                self._on_cid(event.connection_id, True)
            case events.ConnectionIdRetired():
                self._on_cid(event.connection_id, False)
            case events.ConnectionTerminated():
                self.fail(Closed(f"the connection ended: {event.reason_phrase or 'no reason given'}"))

    def _verify(self) -> None:
        """After the handshake, let a client check the server's certificate before it sends anything."""
        if self.engine.configuration.is_client:
            try:
                self.binding = self._tls.verify(self.engine.chain)
            except Refused as error:
                self.shut("certificate not accepted", error)
                return
        self.connected = True
        self.ready.set()
        self._on_ready()

    def _stream(self, stream_id: int) -> QuicStream | None:
        """The stream of an event; None if this side has dropped it.

        When the peer opens a stream, all streams with lower IDs are open too (RFC 9000 section 2.1).
        """
        if stream_id % 2 == self.engine.configuration.is_client:
            while self._next_incoming <= stream_id and not self._failure:
                if len(self._incoming) >= MAX_WAITING:
                    self.shut("too many streams that nobody has accepted")
                    break
                stream = self._streams[self._next_incoming] = QuicStream(self, self._next_incoming)
                self._incoming.append(stream)
                self._hurry(self.heard or 0.0)
                self._arrived.set()
                self._next_incoming += 4
        return self._streams.get(stream_id)
