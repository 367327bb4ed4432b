"""The packets that are under way: what is remembered of one, and how many are acknowledged together.

Nearly all packets of a bulk carry one STREAM frame and nothing else. aioquic's own record of a packet is a
dataclass with two lists and a handler for each frame. This one has slots, says the same where aioquic asks,
and what it carried can be told without calling anything, so that the bytes of many are acknowledged at once.
"""

from collections.abc import Sequence
from typing import Any

from aioquic.quic.packet import QuicPacketType
from aioquic.quic.packet_builder import QuicDeliveryState
from aioquic.tls import Epoch


class StreamPacket:
    """Bytes `start` to `stop` of a stream, without its end."""

    __slots__ = ("packet_number", "sender", "sent_bytes", "sent_state", "sent_time", "start", "stop")

    epoch = Epoch.ONE_RTT
    packet_type = QuicPacketType.ONE_RTT
    in_flight = is_ack_eliciting = True
    is_crypto_packet = False

    def __init__(self, number: int, now: float, size: int, sender: Any, start: int, stop: int) -> None:  # noqa: PLR0917 (keywords would double what it costs)
        self.packet_number = number
        self.sent_time = now
        self.sent_bytes = size
        self.sender = sender
        self.start = start
        self.stop = stop

    @property
    def delivery_handlers(self) -> tuple[tuple[Any, tuple[int, int, bool]], ...]:
        """What aioquic calls when the packet has arrived or was lost."""
        return ((self.sender.on_data_delivery, (self.start, self.stop, False)),)


def take(packets: dict[int, Any], ranges: Sequence[range], before: int) -> list[Any]:
    """Remove from `packets`, in order beyond `before`, those whose number is in `ranges`; oldest first.

    Up to the number `before` few are left; beyond it nearly all are taken. The peer chooses the ranges: work
    is done only for those that touch what is there.
    """
    if not packets:
        return []
    taken: list[Any] = []
    left = []
    for number in packets:
        if number > before:
            break
        left.append(number)
    index = 0
    left.sort()
    for number in left:
        while index < len(ranges) and ranges[index].stop <= number:
            index += 1
        if index == len(ranges):
            break
        if number >= ranges[index].start:
            taken.append(packets.pop(number))
    if packets:
        after, end = max(before, next(iter(packets)) - 1) + 1, next(reversed(packets)) + 1
        for r in ranges:
            numbers = range(max(r.start, after), min(r.stop, end))
            taken += [packets.pop(number) for number in numbers if number in packets]
    return taken


def deliver(packets: Sequence[Any]) -> None:
    """Tell those whose frames were in `packets`, oldest first, that they have arrived."""
    runs: dict[Any, tuple[int, int]] = {}  # of each stream, bytes in a row that were in packets of a bulk
    sender, begin, end = None, 0, 0  # of the packet before
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
