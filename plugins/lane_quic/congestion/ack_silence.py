"""Silences of the peer: the window bridges them, so that ACKs that are lost in a row do not stop the sender.

A window of two bandwidth-delay products is used up after a round trip without an ACK. Where the line loses
packets in bursts, that is common: the ACKs of a bulk transfer are few. Linux's BBR enlarges its window by the
largest excess of ACKs over the bandwidth for a like reason (draft-ietf-ccwg-bbr-05, section 5.5.9).
"""

ORDINARY = 0.016
"""Seconds between two ACKs that are no silence: bursts, gathering, the ACK delay and timers take so much."""
LONGEST = 0.1
"""Seconds of a silence that are bridged, at most."""
LONGEST_ROUNDS = 2.0
"""The same in round trips: the window no more than doubles."""
FADE = 128
"""Rounds in which the longest silence fades."""


class AckSilence:
    """The longest silence of one path lately, from ACKs that the application did not delay."""

    __slots__ = ("_heard_at", "seconds")

    def __init__(self) -> None:
        self.seconds = 0.0
        """How long it was, beyond `ORDINARY`."""
        self._heard_at: float | None = None

    def heard(self, now: float, min_rtt: float, *, waited: bool) -> None:
        """Note that an ACK came at `now`. `waited`: the sender had too little to send to expect it earlier.

        `min_rtt` is the smallest round trip. Times are seconds.
        """
        if self._heard_at is not None and not waited:
            silence = min(now - self._heard_at - ORDINARY, LONGEST, LONGEST_ROUNDS * min_rtt)
            self.seconds = max(self.seconds, silence)
        self._heard_at = now

    def rest(self) -> None:
        """Note that nothing is in flight, so that no ACK is to come."""
        self._heard_at = None

    def end_round(self) -> None:
        """Note that a round ended."""
        self.seconds *= 1 - 1 / FADE
