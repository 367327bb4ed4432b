"""What two QUIC engines say, packet by packet, and their state after it: to compare ways to get there."""

from aioquic.tls import Epoch

from tests.support.quic_pipe import Pipe

ONE_RTT = Epoch.ONE_RTT


class Steady:
    """A controller that is never in the way: only pacing holds back."""

    window = 1 << 40
    pacing_rate = 2e6

    def __init__(self, datagram_size):
        pass

    def on_sent(self, packet, in_flight):
        pass

    def on_sample(self, sample):
        pass


def number_at(data, at):
    size = 1 << (data[at] >> 6)
    return int.from_bytes(data[at : at + size], "big") & (1 << 8 * size - 2) - 1, at + size


def frames(plain):
    """What a packet says, with whatever is random left out: STREAM frames, and the types of others."""
    said, at = [], 0
    while at < len(plain):
        kind, at = plain[at], at + 1
        match kind:
            case kind if kind & 0xF8 == 0x08:
                stream, at = number_at(plain, at)
                offset, at = number_at(plain, at) if kind & 4 else (0, at)
                size, at = number_at(plain, at) if kind & 2 else (len(plain) - at, at)
                said.append(("STREAM", stream, offset, plain[at : at + size], kind & 1))
                at += size
            case 0x02:
                begin, more = at, 0
                for field in range(4):
                    value, at = number_at(plain, at)
                    more = 2 * value if field == 2 else more
                for _ in range(more):
                    _, at = number_at(plain, at)
                said.append(("ACK", plain[begin:at]))
            case 0x30 | 0x31:
                size, at = number_at(plain, at) if kind & 1 else (len(plain) - at, at)
                said.append(("DATAGRAM", plain[at : at + size]))
                at += size
            case 0x06:  # what TLS says is random
                offset, at = number_at(plain, at)
                size, at = number_at(plain, at)
                said.append(("CRYPTO", offset, size))
                at += size
            case 0x18:  # so are a connection ID and its token
                said.append(("NEW_CONNECTION_ID", plain[at : at + 3]))
                at += 2 + 1 + 8 + 16
            case 0x00 | 0x01 | 0x1E:
                said.append(kind)
            case _:
                said.append((kind, plain[at:]))
                break
    return said


class Taped(Pipe):
    """A pipe that writes down what each packet says, and both sides' state after it."""

    def __init__(self, **options):
        self.tape = []
        super().__init__(control=Steady, **options)
        self.connect().settle(1)
        self.tape.clear()  # signatures differ in size
        self.before = [totals(engine) for engine in self.engines]

    @property
    def engines(self):
        return self.client.engine, self.server.engine

    def _put(self, side, datagram):
        if datagram[0] < 0x80:
            who, other = ("client", self.client) if side is self.server else ("server", self.server)
            keys = other.engine._cryptos[ONE_RTT].send
            expected = side.engine._spaces[ONE_RTT].expected_packet_number
            _, plain, number, _ = keys.decrypt_packet(datagram, 9, expected)
            self.tape.append((round(self.now, 6), who, number, len(datagram), frames(plain)))
        super()._put(side, datagram)

    def flush(self):
        super().flush()
        if hasattr(self, "before"):
            states = (state(*both) for both in zip(self.engines, self.before, strict=True))
            self.tape.append(dict(zip(("client", "server"), states, strict=True)))


def ranges(found):
    return [(r.start, r.stop) for r in found]


def totals(engine):
    """Bytes that were sent, delivered and lost until now."""
    progress = engine._loss.progress
    return engine._network_paths[0].bytes_sent, progress.delivered, progress.lost


def state(engine, before):
    """Whatever the fast paths change, or decide by; totals without those from before."""
    sent, delivered, lost = before
    space, loss = engine._spaces[ONE_RTT], engine._loss
    streams = {}
    for number, stream in engine._streams.items():
        sender, receiver = stream.sender, stream.receiver
        streams[number] = (
            sender.buffer_is_empty, sender.highest_offset, sender.is_finished, sender._buffer_start,
            sender._buffer_stop, bytes(sender._buffer), ranges(sender._pending), ranges(sender._acked),
            sender._pending_eof, receiver.highest_offset, receiver.is_finished, receiver._buffer_start,
            receiver.held, receiver._final_size,
            stream.max_stream_data_local, stream.max_stream_data_remote,
        )  # fmt: skip
    return {
        "streams": streams,
        "order": [stream.stream_id for stream in engine._streams_queue],
        "numbers": (engine._packet_number, space.expected_packet_number, space.largest_acked_packet),
        "came": (ranges(space.ack_queue), space.largest_received_packet, space.largest_received_time),
        "known": sorted(n for n in space.received_packets._received if n >= space.received_packets._lower),
        "times": (space.ack_at, space.loss_time, engine._close_at, engine._pacing_at, engine.get_timer()),
        "credit": (engine._remote_max_data_used, engine._local_max_data.used, engine._local_max_data.sent),
        "spin": (engine._spin_bit, engine._spin_highest_pn),
        "idle": engine._ack_eliciting_sent_since_receipt,
        "flying": [
            (number, p.sent_time, p.sent_bytes, p.sent_state[0] - delivered, p.sent_state[1:])
            for number, p in space.sent_packets.items()
            if p.in_flight
        ],
        "in flight": (loss.bytes_in_flight, space.ack_eliciting_in_flight, loss._pto_count),
        "rtt": (loss.rtt, loss._rtt_min, loss._rtt_variance),
        "progress": (loss.progress.delivered - delivered, loss.progress.lost - lost, loss.spurious),
        "bytes": engine._network_paths[0].bytes_sent - sent,
        "datagrams": [*engine.datagrams.outgoing, engine.datagrams.counts(), engine.datagrams.outgoing.share],
    }
