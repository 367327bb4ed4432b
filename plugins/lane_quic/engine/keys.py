"""Key updates for long connections (RFC 9001 section 6). Either side may begin; old packets are still read.

aioquic changes the keys of both directions at once, and so loses the packets that the peer sends before it
notices. It never begins an update, and it derives new keys for each packet with the other key phase. Here
each direction changes when its sender does. The old keys are kept for late packets. The packet number tells
these from packets with the next keys. None of this costs anything per packet: see `Engine.datagrams_to_send`.
"""

from typing import Any

from aioquic.quic.crypto import (  # type: ignore[attr-defined]
    CryptoContext,
    CryptoError,
    CryptoPair,
    KeyUnavailableError,
    apply_key_phase,
    next_key_phase,
)
from aioquic.quic.packet import QuicErrorCode, QuicFrameType, decode_packet_number
from aioquic.tls import Epoch

from lane_quic.engine.handshake_memory import HandshakeMemory
from lane_quic.fastpath.protection import Portable, Protection, derive, protect
from lane_quic.internals.parts import callbacks

UPDATE_AFTER = 1 << 20
"""Packets sent with one set of keys before an update. AES-GCM allows 2^23 (RFC 9001 section 6.6)."""
MOST_PACKETS = 1 << 22
"""Packets sent with one set of keys before the connection ends, if the peer allows no update."""
MOST_FORGED = 1 << 34
"""Undecryptable packets before the connection ends. ChaCha20 allows 2^36 attempts (RFC 9001 section 6.6),
AES-GCM more. A packet takes at most three attempts."""
BRIEF = 64
"""Batches of packets in each direction that Python seals or opens, even where that is compiled. OpenSSL's
contexts take 2 KB, and strangers send no more than that."""
KEPT_TIMEOUTS = 3
"""Probe timeouts for which the old keys are kept (RFC 9001 section 6.5)."""


class Direction(CryptoContext):
    """The keys of one direction."""

    def __init__(self, *, seals: bool, **callbacks: Any) -> None:
        super().__init__(**callbacks)
        self._seals = seals
        self._hp_key = b""  # stays when the other keys change (RFC 9001 section 6)
        self._protected: Any = None  # the AEAD whose keys `_protection` has
        self._asked = 0  # how often it was asked for, up to BRIEF
        self._protection: Any = None

    @property
    def protection(self) -> Protection:
        """What seals or opens common packets with the current keys. Made when it is first asked for."""
        if self._asked < BRIEF:
            self._asked += 1
            return Portable(self.aead, self.hp)
        if self._protected is not self.aead:
            self._keep_hp_key()
            self._protection = protect(self, self._hp_key, seals=self._seals)
            self._protected = self.aead
        found: Protection = self._protection
        return found

    def _keep_hp_key(self) -> None:
        if not self._hp_key:
            self._hp_key = derive(self)[2]

    def advance(self, following: CryptoContext, trigger: str) -> None:
        """Go on with the next keys."""
        self._keep_hp_key()
        apply_key_phase(self, following, trigger=trigger)


class OneRttKeys(CryptoPair):
    """The keys of packets with a short header, in both directions."""

    recv: Direction
    send: Direction

    def __init__(self, plain: CryptoPair) -> None:
        """`plain` is aioquic's pair, which these take the place of before it has keys."""
        super().__init__()
        self.recv = Direction(seals=False, **callbacks(plain.recv))
        self.send = Direction(seals=True, **callbacks(plain.send))
        self.sent = self.received = 0
        """Key updates so far, by direction."""
        self.before: Any = None
        """The AEAD with the peer's old keys, for its late packets."""
        self.forget_at: float | None = None
        self.forged = 0
        """Packets that could not be decrypted."""
        self._first = 0  # the number of the first packet with the current keys
        self._next: CryptoContext | None = None  # the next keys, once a packet seems to use them

    @property
    def key_phase(self) -> int:
        """The key phase bit of sent packets."""
        phase: int = self.send.key_phase
        return phase

    def update_key(self) -> None:
        """Send with the next keys from now on. The caller has checked that the peer has the current ones."""
        self._send_next("local_update")

    def decrypt_packet(
        self, packet: bytes, encrypted_offset: int, expected_packet_number: int
    ) -> tuple[bytes, bytes, int]:
        """Return the header, the payload and the number of a packet. Raises CryptoError."""
        if self.recv.aead is None:
            raise KeyUnavailableError("Decryption key is not available")
        assert self.recv.hp is not None
        header, truncated = self.recv.hp.remove(packet, encrypted_offset)
        number = decode_packet_number(truncated, ((header[0] & 3) + 1) * 8, expected_packet_number)
        aead = self._aead(header[0] >> 2 & 1, number)
        try:
            if aead is None:
                raise CryptoError("the keys were discarded")
            payload: bytes = aead.decrypt(packet[len(header) :], header, number)
        except CryptoError:
            self.forged += 1
            raise
        if self._next is not None and aead is self._next.aead:
            self._follow(number)
        return header, payload, number

    def _aead(self, phase: int, number: int) -> Any:
        """The AEAD that decrypts a packet; None if its keys were discarded."""
        if phase == self.recv.key_phase:
            return self.recv.aead
        if number < self._first:
            return self.before
        if self._next is None:
            self._next = next_key_phase(self.recv)
        return self._next.aead

    def _follow(self, number: int) -> None:
        """Follow the peer's key update, which began at about packet `number`, in both directions."""
        assert self._next is not None
        self.before, self.forget_at = self.recv.aead, None
        self.recv.advance(self._next, "remote_update")
        self._next, self._first = None, number
        self.received += 1
        if self.sent < self.received:
            self._send_next("remote_update")

    def _send_next(self, trigger: str) -> None:
        self.send.advance(next_key_phase(self.send), trigger)
        self.sent += 1


class KeyUpdate(HandshakeMemory):
    """A connection that updates its keys long before they reach their limit."""

    __slots__ = ("_phase", "_phase_from", "_update_at")

    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.keys = None
        self._phase = 0  # `OneRttKeys.sent` since packet number `_phase_from`
        self._phase_from = 0
        self._update_at = UPDATE_AFTER

    def initialize(self, peer_cid: bytes) -> None:
        super().initialize(peer_cid)
        self.keys = self.cryptos[Epoch.ONE_RTT] = OneRttKeys(self.cryptos[Epoch.ONE_RTT])

    def request_key_update(self) -> None:
        """Update the keys as soon as that is allowed."""
        self._update_at = 0

    def receive_datagram(self, data: bytes, addr: Any, now: float) -> None:
        """Receive as aioquic does, but end the connection after too many forged packets."""
        super().receive_datagram(data, addr, now)
        if self.keys is not None and self.keys.forged >= MOST_FORGED:
            self._wear_out("too many packets could not be decrypted")

    def _change_keys(self, now: float) -> None:
        """Begin a key update if one is due, and discard the old keys in time."""
        keys = self.keys
        if keys.before is not None:
            if keys.forget_at is None:
                keys.forget_at = now + KEPT_TIMEOUTS * self.loss.get_probe_timeout()
            elif now >= keys.forget_at:
                keys.before = None
        if keys.sent != self._phase:  # the peer began
            self._begin_phase()
        if self.packet_number < self._update_at:
            return
        if self._may_update():
            keys.update_key()
            self._begin_phase()
        elif self.packet_number - self._phase_from >= MOST_PACKETS:
            self._wear_out("the keys are worn out")

    def _begin_phase(self) -> None:
        self._phase, self._phase_from = self.keys.sent, self.packet_number
        self._update_at = self.packet_number + UPDATE_AFTER

    def _may_update(self) -> bool:
        """Whether the peer has the current keys (RFC 9001 section 6.1).

        It sends with them, and has acknowledged a packet that was sent with them.
        """
        keys, space = self.keys, self.spaces[Epoch.ONE_RTT]
        acknowledged = space.largest_acked_packet >= self._phase_from
        return self.handshake_confirmed and keys.received == keys.sent and acknowledged

    def _wear_out(self, reason: str) -> None:
        self.close(QuicErrorCode.AEAD_LIMIT_REACHED, QuicFrameType.PADDING, reason)
