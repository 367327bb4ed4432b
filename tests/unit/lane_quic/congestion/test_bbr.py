"""BBR under a simulated link and a virtual clock: it fills what loses, and yields to what is full."""

import statistics

import pytest
from lane_quic.congestion.bbr import Bbr, BbrState
from lane_quic.congestion.controllers import CONTROLLERS
from lane_quic.congestion.line_loss import MAX_LINE_LOSS

from tests.support.quic_link import SIZE, Clock, Flow, Link

SEEDS = [1]
pytestmark = pytest.mark.bulk  # the tracer would make them take minutes


def lone(seed=1, control="bbr", supply=None, **link):
    clock = Clock(seed)
    controller = Bbr(SIZE, seed) if control == "bbr" else CONTROLLERS[control](SIZE)
    return Flow(clock, Link(clock, **link), controller, supply=supply)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("link", "least"),
    [
        ({"loss": 0.0}, 0.98),
        ({"loss": 0.02}, 0.98 * 0.98),
        ({"loss": 0.10}, 0.90 * 0.97),
        ({"loss": 0.30}, 0.70 * 0.90),
        ({"loss": 0.10, "burst": 8}, 0.90 * 0.83),  # of the ACKs, too
        ({"mbit": 2, "loss": 0.05, "rtt": 0.1}, 0.95 * 0.90),
        ({"mbit": 300, "rtt": 0.02}, 0.90),
    ],
)
def test_loss_alone_does_not_slow_it_down(seed, link, least):
    flow = lone(seed, **link)
    flow.rate(2)
    assert flow.rate(6) > least


def test_bursts_on_the_line_are_no_full_queue():
    """With this seed they cut the window to two thirds while each packet of a burst counted."""
    flow = lone(7, loss=0.02, burst=16)
    flow.rate(3)
    assert flow.rate(10) > 0.98 * 0.95


def test_cubic_does_slow_down():
    """The measure of the test above can fail: this is what it is like without BBR."""
    flow = lone(control="cubic", loss=0.10)
    flow.rate(2)
    assert flow.rate(6) < 0.1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_long_fat_path_is_filled_within_two_seconds(seed):
    flow = lone(seed, mbit=100, rtt=0.2, loss=0.01)
    flow.rate(1.2)
    assert flow.rate(1) > 0.85


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_reordering_is_not_loss(seed, loss):
    flow = lone(seed, loss=loss, jitter=0.005)
    flow.rate(2)
    assert flow.rate(6) > 0.93 * (1 - loss)
    assert flow.recovery.spurious < 0.01 * flow.sent


@pytest.mark.parametrize("seed", SEEDS)
def test_jitter_is_no_queue_for_the_start(seed):
    """The first packets of a connection are few, and show the smallest round trip. Those of a bulk wait."""
    supply = lambda now: 10 * SIZE * now if now < 2 else 1e12  # noqa: E731
    flow = lone(seed, supply=supply, rtt=0.08, jitter=0.02, ordered=True)
    flow.rate(2)
    assert flow.rate(2) > 0.75


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_the_queue_stays_short_however_deep_it_may_be(seed, loss):
    flow = lone(seed, queue=2_000_000, loss=loss)
    flow.rate(3)
    flow.link.waits.clear()
    flow.rate(8)
    assert statistics.mean(flow.link.waits) < 0.13 * flow.link.rtt
    assert flow.link.dropped == 0


@pytest.mark.parametrize("seed", SEEDS)
def test_a_faster_link_is_found_soon(seed):
    flow = lone(seed)
    flow.rate(3)
    flow.link.rate *= 4
    flow.link.queue *= 4
    flow.rate(4)
    assert flow.rate(2) > 0.95


@pytest.mark.parametrize("seed", SEEDS)
def test_a_slower_link_is_not_flooded_for_long(seed):
    flow = lone(seed)
    flow.rate(3)
    flow.link.rate /= 6
    flow.rate(2)
    dropped = flow.link.dropped
    assert flow.rate(4) > 0.95
    assert flow.link.dropped - dropped < 0.02 * flow.sent


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rtt", [0.02, 0.15])
def test_another_round_trip_is_learnt(seed, rtt):
    flow = lone(seed, queue=1_000_000)
    flow.rate(3)
    flow.link.rtt = rtt
    flow.rate(6)
    assert flow.rate(3) > 0.95
    assert flow.controller.min_rtt == pytest.approx(rtt, rel=0.1)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("queue", "loss"), [(1_000_000, 0.0), (200_000, 0.1), (65536, 0.0)])
def test_a_much_longer_path_is_full_soon(seed, queue, loss):
    """Its rates were the window's: the bandwidth learnt from them took six seconds more to grow."""
    flow = lone(seed, rtt=0.02, queue=queue, loss=loss)
    flow.rate(5)
    flow.link.rtt = 0.2
    flow.rate(2)
    dropped, sent = flow.link.dropped, flow.sent
    assert flow.rate(1) > 0.93 * (1 - loss)
    assert flow.link.dropped - dropped < 0.02 * (flow.sent - sent)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("link", [{"rtt": 0.02}, {"rtt": 0.02, "queue": 65536}, {"rtt": 0.05, "mbit": 2}])
def test_a_path_that_became_longer_before_its_bandwidth_was_known_is_full_soon(seed, link):
    """The long round trip ended the start, and its queue never drained: the rate fell to a hundredth."""
    flow = lone(seed, supply=lambda now: 10 * SIZE * now, **link)
    flow.rate(5)
    flow.link.rtt = 0.2
    flow._supply = None
    flow.rate(8)
    assert flow.rate(2) > 0.8


@pytest.mark.parametrize("seed", SEEDS)
def test_the_queue_of_another_flow_is_not_measured_again_and_again(seed, monkeypatch):
    """Each time the other one's queue counts as path, and the queue of two grew to twice the length."""
    measured, started, enter = [], [], Bbr._enter

    def note(bbr, state, now):
        if state is BbrState.PROBE_RTT:
            measured.append(now)
        if state is BbrState.START:
            started.append(now)
        enter(bbr, state, now)

    monkeypatch.setattr(Bbr, "_enter", note)
    flow = lone(seed, mbit=10, rtt=0.02, queue=100_000)
    Flow(flow.clock, flow.link, Bbr(SIZE, seed + 1), start=3.0)
    flow.rate(35)
    assert len(measured) <= 10
    assert not started, "the path is no longer than before"


def test_a_much_longer_round_trip_is_learnt_even_if_one_was_just_measured():
    """The window for the short one would fill a fraction of the path meanwhile."""
    flow = lone(queue=65536)
    flow.rate(5)
    flow.controller._enter(BbrState.PROBE_RTT, flow.clock.now)
    while flow.controller.state is BbrState.PROBE_RTT:
        flow.rate(0.05)
    flow.link.rtt = 0.5
    flow.rate(7)
    assert flow.controller.min_rtt > 0.4


@pytest.mark.parametrize("seed", SEEDS)
def test_a_policer_is_not_answered_with_more(seed):
    """Loss that comes from our rate must not raise it, as the loss of a line does."""
    flow = lone(seed, police=1e6)
    flow.rate(8)
    before = flow.sent, flow.received
    flow.rate(8)
    sent, received = flow.sent - before[0], flow.received - before[1]
    assert received * (SIZE + 28) / 8 > 0.9e6
    assert 1 - received / sent < 0.25
    assert flow.controller.line_loss < 0.1


def test_the_loss_it_makes_up_for_is_bounded():
    flow = lone(loss=0.6)
    flow.rate(8)
    assert flow.controller.line_loss <= MAX_LINE_LOSS


@pytest.mark.parametrize("seed", SEEDS)
def test_an_application_that_sends_little_teaches_nothing(seed):
    """100 KB/s for a while, then all it can: the bandwidth known does not shrink to what was asked for."""
    flow = lone(seed, supply=lambda now: 1e5 * now if 4 < now < 20 else 1e12)
    flow.rate(4)
    known = flow.controller.bandwidth
    flow.rate(12)
    assert flow.controller.bandwidth > 0.8 * known
    flow = lone(seed, supply=lambda now: 1e5 * now if now < 4 else 1e12)
    flow.rate(4)
    assert flow.controller.state is BbrState.START, "nothing is known yet"
    flow.rate(1)
    assert flow.rate(2) > 0.95


def test_a_short_answer_leaves_at_once_after_a_pause():
    flow = lone(supply=lambda now: 4 * SIZE * (1 + int(now)))
    flow.rate(9.5)
    assert flow.received == 4 * 10
    assert flow.recovery.pacer.next_send_time(flow.clock.now) is None


def shares(seed, *controls, seconds=25, starts=(0.0, 1.0), extra=(0, 0, 0, 0), **link):
    """What each flow gets of all that arrives, after 8 seconds. `extra`: of their round trips, seconds."""
    clock = Clock(seed)
    link = Link(clock, **link)
    flows = [
        Flow(
            clock,
            link,
            Bbr(SIZE, seed + i) if c == "bbr" else CONTROLLERS[c](SIZE),
            starts[i],
            extra=extra[i],
        )
        for i, c in enumerate(controls)
    ]
    clock.run(8)
    before = [flow.received for flow in flows]
    clock.run(seconds)
    got = [flow.received - b for flow, b in zip(flows, before, strict=True)]
    return [part / sum(got) for part in got]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("starts", [(0, 1), (2, 0)])
@pytest.mark.parametrize("other", ["bbr", "cubic"])
def test_two_flows_share_a_bottleneck(seed, starts, other):
    assert min(shares(seed, "bbr", other, starts=starts)) > 0.25


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("other", "link", "starts"),
    [
        ("cubic", {"queue": 65536}, (0, 1)),
        ("cubic", {"queue": 65536}, (4, 0)),
        ("cubic", {"queue": 32768}, (4, 0)),
        ("cubic", {"queue": 204800, "mbit": 100}, (0, 1)),
        ("cubic", {"queue": 32768, "mbit": 10}, (0, 1)),
        ("reno", {"queue": 65536}, (4, 0)),
        ("bbr", {"queue": 65536}, (0, 1)),
    ],
)
def test_two_flows_share_a_bottleneck_with_a_short_queue(seed, starts, other, link):
    """Cubic reacts to what our probes make the queue drop. We must react too, or we take all."""
    assert 0.35 < shares(seed, "bbr", other, starts=starts, **link)[0] < 0.65


@pytest.mark.parametrize("seed", SEEDS)
def test_a_longer_path_shares_a_short_queue(seed):
    assert min(shares(seed, "bbr", "cubic", queue=65536, extra=(0.05, 0))) > 0.3
    assert min(shares(seed, "bbr", "cubic", queue=65536, extra=(0, 0.05))) > 0.3


@pytest.mark.parametrize("seed", SEEDS)
def test_three_cubics_are_not_starved(seed):
    assert shares(seed, "bbr", "cubic", "cubic", "cubic", starts=(0, 1, 2, 3), queue=65536)[0] < 0.55


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("queue", "least"), [(65536, 0.92), (32768, 0.88)])
def test_a_short_queue_alone_costs_little(seed, queue, least):
    flow = lone(seed, queue=queue)
    flow.rate(3)
    dropped, sent = flow.link.dropped, flow.sent
    assert flow.rate(8) > least
    assert flow.link.dropped - dropped < 0.02 * (flow.sent - sent)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("loss", [0.02, 0.1])
def test_a_short_queue_is_no_reason_to_yield_on_a_lossy_line(seed, loss):
    flow = lone(seed, queue=32768, loss=loss)
    flow.rate(2)
    assert flow.rate(8) > 0.90 * (1 - loss)


@pytest.mark.parametrize("seed", SEEDS)
def test_two_flows_share_a_lossy_bottleneck(seed):
    assert min(shares(seed, "bbr", "bbr", loss=0.1)) > 0.25


@pytest.mark.parametrize("control", CONTROLLERS)
def test_every_controller_fills_a_clean_link(control):
    flow = lone(control=control)
    flow.rate(3)
    assert flow.rate(5) > 0.9
