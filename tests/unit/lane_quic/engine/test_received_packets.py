"""The numbers of packets that came, in rows and one by one."""

from hypothesis import given
from hypothesis import strategies as st
from lane_quic.engine.received_packets import KNOWN_PACKETS, ReceivedPackets
from lane_quic.engine.tail_repeat import SPAN, Arrivals

ROWS = st.lists(
    st.tuples(st.integers(0, 2 * SPAN), st.integers(1, 3 * SPAN) | st.just(KNOWN_PACKETS)), max_size=20
)


@given(ROWS)
def test_packets_in_a_row_are_counted_as_one_by_one(rows):
    """`rows`: how many are lost, and how many come behind them."""
    together, apart = ReceivedPackets(Arrivals()), ReceivedPackets(Arrivals())
    stop = 0
    for lost, came in rows:
        low, stop = stop + lost, stop + lost + came
        together.add_row(low, stop)
        for number in range(low, stop):
            apart.add(number)
        for number in (low - 1, low, stop - 1, stop, stop - KNOWN_PACKETS, stop - KNOWN_PACKETS - 1):
            assert (number in together) == (number in apart), number
        assert vars(together._arrivals) == vars(apart._arrivals)
        assert len(together._received) <= 3 * KNOWN_PACKETS
