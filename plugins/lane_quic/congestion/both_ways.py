"""Transfers in both directions at once: whose queue is it?

A round trip has two queues. Our packets wait in one; their ACKs wait in the other, behind what the peer
sends. From here both look the same. A sender that takes the peer's queue for its own ends its start too
early, counts no round for the loss of the line, and drains for ever what is not there, while the peer takes
the line for itself. So while a transfer comes back, a queue counts as ours by the share of what we send:
whoever sends more drains more. The start, which can't tell either, goes on until the bandwidth stays.
"""

ACKS = 0.125
"""What comes back, as a fraction of what we send, up to which it counts as ACKs alone."""
TRANSFER = 32
"""Packets that come back in a round, from which on they are a transfer."""


class BothWays:
    """What goes each way on one path. `datagram_size` is in bytes."""

    __slots__ = ("_delivered", "_least", "_received", "ours")

    def __init__(self, datagram_size: int) -> None:
        self._least = TRANSFER * datagram_size
        self._delivered = self._received = -1  # at the start of the round
        self.ours = 1.0
        """What we sent in the last round, as a fraction of all, if a transfer came back; else 1."""

    @property
    def at_once(self) -> bool:
        """Whether a transfer came back in the last round."""
        return self.ours < 1.0

    def end_round(self, delivered: int, received: int) -> None:
        """Note that a round ended. Bytes of the whole connection that have arrived at the peer, and here."""
        ours, theirs = delivered - self._delivered, received - self._received
        known, self._delivered, self._received = self._received >= 0, delivered, received
        many = known and theirs > max(ACKS * ours, self._least)
        self.ours = ours / (ours + theirs) if many else 1.0
