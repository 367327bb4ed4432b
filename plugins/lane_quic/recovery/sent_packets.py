"""The packets in flight: a compact record of each, and the acknowledgement of many at once.

Nearly all packets of a bulk transfer carry one STREAM frame and nothing else. aioquic's record of a packet
is a dataclass with two lists and a handler for each frame. The record here has slots, and gives aioquic the
same values. Its content is known without a call, so that the bytes of many packets are acknowledged together.
"""

from bisect import bisect_left
from collections.abc import Sequence
from typing import Any

from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.tls import Epoch

FEW = 4
"""Packets that are acknowledged one by one. To find those that continue each other would cost more."""


Handlers = tuple[tuple[Any, tuple[Any, ...]], ...]
"""The functions that aioquic calls when a packet was acknowledged or lost, with their arguments."""


class DataPacket:
    """A packet with data for which the peer sends an ACK."""

    __slots__ = ("packet_number", "sent_bytes", "sent_state", "sent_time")

    epoch = Epoch.ONE_RTT
    packet_type = QuicPacketType.ONE_RTT
    in_flight = is_ack_eliciting = True
    is_crypto_packet = False


class DatagramPacket(DataPacket):
    """A packet with datagrams, which are sent once. It may have an ACK frame too."""

    __slots__ = ("delivery_handlers",)

    def __init__(self, number: int, now: float, size: int, handlers: Handlers) -> None:
        self.packet_number = number
        self.sent_time = now
        self.sent_bytes = size
        self.delivery_handlers = handlers


class StreamPacket(DataPacket):
    """A packet with only the bytes `start` to `stop` of a stream, without the stream's end."""

    __slots__ = ("sender", "start", "stop")

    def __init__(self, number: int, now: float, size: int, sender: Any, start: int, stop: int) -> None:  # noqa: PLR0917 (keywords would double what it costs)
        self.packet_number = number
        self.sent_time = now
        self.sent_bytes = size
        self.sender = sender
        self.start = start
        self.stop = stop

    @property
    def delivery_handlers(self) -> Handlers:
        """The functions that aioquic calls when the packet was acknowledged or lost."""
        return ((self.sender.on_data_delivery, (self.start, self.stop, False)),)


class AnsweringPacket(StreamPacket):
    """One with an ACK frame too, whose delivery handler is `answer`."""

    __slots__ = ("answer",)

    def __init__(self, answer: tuple[Any, tuple[Any, int]], *what: Any) -> None:
        super().__init__(*what)
        self.answer = answer

    @property
    def delivery_handlers(self) -> Handlers:
        """The functions that aioquic calls when the packet was acknowledged or lost."""
        return (self.answer, *super().delivery_handlers)


def take(packets: dict[int, Any], ranges: Sequence[range], before: int) -> list[Any]:
    """Remove from `packets` those whose number is in `ranges`. Return them, oldest first.

    `packets` is sorted after the number `before`. Up to there few packets are left, and after it nearly all
    are taken. The peer chooses the ranges, so only ranges that contain packets cost work.
    """
    if not packets:
        return []
    taken: list[Any] = []
    first = next(iter(packets))
    if first <= before:
        left = []
        for number in packets:
            if number > before:
                break
            left.append(number)
        left.sort()
        for r in ranges:
            if r.start > left[-1]:
                break
            covered = left[bisect_left(left, r.start) : bisect_left(left, r.stop)]
            taken += [packets.pop(number) for number in covered]
        first = next(iter(packets), 0)
    if packets:
        after, end = max(before + 1, first), next(reversed(packets)) + 1
        for r in ranges:
            numbers = range(max(r.start, after), min(r.stop, end))
            taken += [packets.pop(number) for number in numbers if number in packets]
    return taken


def deliver(packets: Sequence[Any]) -> None:
    """Call the handlers of all frames in `packets`, which have arrived. `packets` has the oldest first."""
    if len(packets) <= FEW:
        for packet in packets:
            if type(packet) is StreamPacket:
                packet.sender.on_data_delivery(QuicDeliveryState.ACKED, packet.start, packet.stop, False)
                continue
            for handler, arguments in packet.delivery_handlers:
                handler(QuicDeliveryState.ACKED, *arguments)
        return
    runs: dict[Any, tuple[int, int]] = {}  # by stream: contiguous bytes from stream packets
    sender, begin, end = None, 0, 0  # of the previous packet
    for packet in packets:
        if type(packet) is not StreamPacket:
            for handler, arguments in packet.delivery_handlers:
                handler(QuicDeliveryState.ACKED, *arguments)
            continue
        if packet.sender is not sender:
            runs[sender] = begin, end
            sender = packet.sender
            begin, end = runs.get(sender, (0, 0))
        if packet.start != end:
            _acknowledge(sender, begin, end)
            begin = packet.start
        end = packet.stop
    runs[sender] = begin, end
    for known, (begin, end) in runs.items():
        _acknowledge(known, begin, end)


def _acknowledge(sender: Any, begin: int, end: int) -> None:
    if begin < end:
        sender.on_data_delivery(QuicDeliveryState.ACKED, begin, end, False)
