"""The contract between lane and its transports.

A transport is only a reliable byte pipe. The session adds flow control between the two ends, keepalive and
resumption. They are written once, in the core, so that a third party's transport stays small.

The types cannot express these rules. `lane.testing.TransportContract` checks them:

- A stream has one reader greenlet and one writer greenlet. A deadline is a `gevent.Timeout` around a call.
  After a timeout has interrupted a `sendall`, only `reset` is legal.
- When a carrier is lost, the calls that are blocked in it raise `Closed`. When the peer resets a stream, they
  raise `Reset`. A clean end is always `b""`, and only follows the peer's `finish`. A lost carrier is never a
  clean end.
- Received data that nobody reads is bounded. A sender that is faster than the reader blocks.
- Each datagram arrives whole and at most once, in any order, or not at all. The queues for sending and for
  reading are bounded. A full queue drops its oldest datagrams.
"""

from lane.address import Address
from lane.errors import Closed, Reset
from lane.stream.contract import (
    Carrier,
    ClientTLS,
    Datagrams,
    LinkStats,
    Listener,
    ServerTLS,
    Stream,
    Transport,
    measured,
)
from lane.stream.optional import (
    AbortsSending,
    Examines,
    Finding,
    HandsOver,
    HandsShort,
    Joins,
    OverTCP,
    Paces,
    Pauses,
    Prepares,
    Presents,
    Proves,
    Renews,
    Rings,
    SendsNow,
    Views,
    joiner,
    receiver,
    renewer,
)

__all__ = [
    "AbortsSending", "Address", "Carrier", "ClientTLS", "Closed", "Datagrams", "Examines", "Finding",
    "HandsOver", "HandsShort", "Joins", "LinkStats", "Listener", "OverTCP", "Paces", "Pauses", "Prepares",
    "Presents", "Proves", "Renews", "Reset", "Rings", "SendsNow", "ServerTLS", "Stream", "Transport",
    "Views", "joiner", "measured", "receiver", "renewer",
]  # fmt: skip
