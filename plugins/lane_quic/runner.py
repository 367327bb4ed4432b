"""Runs an engine: its packets, its timers and its events, in the event loop.

Nothing here blocks on the network. An endpoint (endpoint.py, listener.py) passes received datagrams in, and
the engine's packets are sent with `send`. Everything written in one turn of the event loop is flushed once,
at its end, so that small writes share packets.

A failure ends only its own connection. Each entry point (the endpoint, a timer, the event loop) reports
failures to `fail`. `fail` completes all its steps even if one of them fails. After it the runner refers to
nobody who refers to it: what has ended must not wait for the garbage collector.
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
from lane.stream import ClientTLS
from lane_quic.alarm import Alarm
from lane_quic.engine.engine import Engine
from lane_quic.stream import QuicStream
from lane_quic.streams import Streams
from lane_quic.udp.offload import Datagrams
from lane_quic.udp.udp import GATHER_HURRIED, GATHER_MOST

log = logging.getLogger("lane.quic")

KEEPALIVE = 12.0
"""Seconds without a received packet after which a client with open streams sends a keepalive. It can be lost
several times before the idle time-out of 20 s."""

PROBE_PAUSE = 1.0
"""Seconds between two probes of a peer that may be dead."""

Path = Any  # what the endpoint needs to reach the peer; aioquic only compares it


class Owner:
    """The endpoint of a carrier, which is told what happens to it. This one does nothing."""

    def on_cid(self, carrier: Any, cid: bytes, used: bool) -> None:
        """The peer may use a connection ID, or no longer may."""

    def on_ready(self, carrier: Any) -> None:
        """The handshake is done."""

    def on_proven(self, carrier: Any) -> None:
        """The peer has proven a key."""

    def on_silence(self, carrier: Any) -> None:
        """Answers are overdue. Called now and then while they are."""

    def on_end(self, carrier: Any) -> None:
        """The connection has ended."""


NOBODY = Owner()
"""The owner of carriers that have ended."""


class Runner:
    """One connection of `owner`. `send(datagrams)` hands packets to the endpoint and must not block."""

    def __init__(
        self,
        engine: Engine,
        send: Callable[[Datagrams], None],
        peer: str,
        owner: Owner,
        *,
        binding: bytes = b"",
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
        self._owner = owner
        self._failure: Failure[LaneError] | None = None
        self._streams = Streams(int(engine.configuration.is_client))
        self._drained: Event | None = None  # set when `close` waits for the streams to drain
        self._probed = -inf
        self._hub: Any = gevent.get_hub()
        self._alarm = Alarm(self._on_timer)
        self._keepalive = Alarm(self._keep_alive)
        self._flushing = False
        engine.wake = self.flush_soon

    @property
    def closed(self) -> bool:
        """See `lane.stream.Carrier`."""
        return self._failure is not None

    @property
    def error(self) -> LaneError | None:
        """The reason why the connection has ended; None while it is open."""
        return self._failure.build() if self._failure else None

    # Called by the endpoint.

    def start(self, tls: ClientTLS, address: Path) -> None:
        """Begin a client's handshake with the server at `address`."""
        self._tls = tls
        now = monotonic()
        self.engine.connect(address, now=now)
        self._keepalive.set(now + KEEPALIVE, now)
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
            self._alarm.set(at, now)
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
            alarm = self._alarm
            if alarm.at is None or not engine.timer_stays:
                alarm.set(engine.get_timer(), now)
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
        owner, self._owner, self._send = self._owner, NOBODY, _lose
        for step in (
            partial(self._wake_all, error),
            partial(self._end_engine, error),
            partial(owner.on_end, self),
        ):
            try:
                step()
            except Exception:
                log.exception("ending the connection with %s failed", self.peer)
        self._hub.loop.run_callback(self.engine.let_go)  # the caller may be the engine

    def _wake_all(self, error: LaneError) -> None:
        self._alarm.close()
        self._keepalive.close()
        self.ready.set()
        if self._drained is not None:
            self._drained.set()
        self._streams.end(error)
        self.waiting.clear()

    def _end_engine(self, error: LaneError) -> None:
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

    def _on_timer(self) -> None:
        now = monotonic()
        try:
            due = self.engine.get_timer()
            if due is not None and now < due:  # it was moved to a later time
                self._alarm.set(due, now)
                return
            if due is not None:
                self.engine.handle_timer(now=now)
                if self.connected and self.engine.silent:
                    self._owner.on_silence(self)
        except Exception:
            self._broke("a timer")
        self.flush()

    def _keep_alive(self) -> None:
        now = monotonic()
        wait = KEEPALIVE - (now - (self.heard or 0)) if self._streams else KEEPALIVE
        if wait <= 0:
            self._ask(now)
        self._keepalive.set(now + (wait if wait > 0 else KEEPALIVE), now)

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
                self._owner.on_cid(self, event.connection_id, True)
            case events.ConnectionIdRetired():
                self._owner.on_cid(self, event.connection_id, False)
            case events.ConnectionTerminated():
                self.fail(Closed(f"the connection ended: {event.reason_phrase or 'no reason given'}"))

    def hurry(self, now: float) -> None:
        """Let short messages wait less for bulk transfers: somebody waits for a new session."""
        self._patience = min(self._patience, GATHER_HURRIED)
        if self.waiting:
            self.engine.loss.pacer.hurry(now)

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
        self._owner.on_ready(self)

    def _stream(self, stream_id: int) -> QuicStream | None:
        """The stream of an event; None if this side has dropped it.

        When the peer opens a stream, all streams with lower IDs are open too (RFC 9000 section 2.1).
        """
        streams = self._streams
        if stream_id % 2 == self.engine.configuration.is_client:
            while streams.next_incoming <= stream_id and not self._failure:
                if streams.full:
                    self.shut("too many streams that nobody has accepted")
                    break
                streams.add_incoming(QuicStream(self, streams.next_incoming))
                self.hurry(self.heard or 0.0)
        return streams.get(stream_id)


def _lose(datagrams: Datagrams) -> None:
    """Send nothing: the connection has ended."""
