"""Which times without an ACK enlarge the window, and by how much at most."""

import pytest
from lane_quic.congestion.ack_silence import FADE, LONGEST, LONGEST_ROUNDS, ORDINARY, AckSilence

RTT = 0.04


@pytest.mark.parametrize(
    ("pause", "rtt", "bridged"),
    [
        (ORDINARY / 2, RTT, 0.0),
        (ORDINARY + 0.03, RTT, 0.03),
        (5.0, RTT, LONGEST_ROUNDS * RTT),
        (5.0, 10 * RTT, LONGEST),
    ],
)
def test_a_silence_is_bridged_up_to_a_bound(pause, rtt, bridged):
    silence = AckSilence()
    silence.heard(100.0, rtt, waited=False)
    silence.heard(100.0 + pause, rtt, waited=False)
    assert silence.seconds == pytest.approx(bridged)
    for _ in range(3 * FADE):
        silence.end_round()
    assert silence.seconds == pytest.approx(0.05 * bridged, rel=0.05)


def test_a_pause_of_the_application_is_no_silence():
    silence = AckSilence()
    for now, waited in ((100.0, False), (101.0, True), (101.005, False)):
        silence.heard(now, RTT, waited=waited)
    silence.rest()
    silence.heard(102.0, RTT, waited=False)
    assert silence.seconds == 0.0
