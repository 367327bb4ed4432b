"""Equal rates for transfers over one path: who is capped, and when the caps are lifted."""

import socket
import struct

import pytest
from lane_tls import fair_rates
from lane_tls.crowd import Crowd
from lane_tls.fair_rates import (
    CROWD,
    FIRST,
    HEADROOM,
    LEAST,
    STEADY,
    STILL,
    UNLIMITED,
    FairRates,
    Path,
    Transfer,
    cap,
    remember,
)

from lane.net.path_memory import PATHS
from lane.tcp_info import PathInfo, path_info
from lane.testing.harness import until

QUEUE, EMPTY = PathInfo(0, 0.1, 0.05), PathInfo(0, 0.052, 0.05)
PACING = 47


def transfer(rate, *, lost=0, blocked=True):
    """One that has moved `rate` bytes a second for some time, and `lost` so many of them."""
    made = Transfer()
    for second in range(STEADY + 2):
        made.take(PathInfo(rate * second, 0.1, 0.05, lost * second), float(second), blocked=blocked)
    return made


def test_beside_a_queue_nobody_has_much_more_than_the_average():
    transfers = [transfer(900_000), transfer(50_000), transfer(100_000)]
    cap(transfers, [QUEUE] * 3)
    assert {one.cap for one in transfers} == {int(HEADROOM * 350_000)}


@pytest.mark.parametrize(
    "paths", [[EMPTY] * 3, [], [PathInfo(0, 0.001, 0.0001)] * 3, [PathInfo(0, 1, 0)] * 3]
)
def test_without_a_queue_nobody_is_capped(paths):
    transfers = [transfer(900_000), transfer(50_000), transfer(100_000)]
    cap(transfers, [QUEUE] * 3)
    cap(transfers, paths)
    assert {one.cap for one in transfers} == {UNLIMITED}


def test_one_that_the_path_does_not_limit_neither_counts_nor_is_capped():
    slow, others = transfer(1000, blocked=False), [transfer(300_000), transfer(500_000)]
    cap([slow, *others], [QUEUE] * 3)
    assert slow.cap == UNLIMITED
    assert {one.cap for one in others} == {int(HEADROOM * 400_000)}


def test_one_alone_and_a_new_one_are_not_capped():
    alone, new = transfer(300_000), Transfer()
    new.take(QUEUE, 1.0, blocked=True)
    cap([alone, new], [QUEUE] * 2)
    assert alone.cap == new.cap == UNLIMITED


def test_one_whose_reader_has_stopped_takes_nothing_from_the_others():
    stopped, others = transfer(300_000), [transfer(300_000), transfer(500_000)]
    for second in range(STEADY + 2, STEADY + 3 + STILL):
        stopped.take(PathInfo(300_000 * (STEADY + 1), 0.1, 0.05), float(second), blocked=True)
    cap([stopped, *others], [QUEUE] * 3)
    assert {one.cap for one in others} == {int(HEADROOM * 400_000)}
    cap([stopped, others[0]], [QUEUE] * 2)
    assert others[0].cap == UNLIMITED


def test_one_without_a_queue_of_its_own_is_not_capped_by_slow_ones():
    """They share the address of the peer, and not its way."""
    slow, fast = transfer(5000), transfer(900_000)
    fast.take(PathInfo(900_000 * (STEADY + 2), 0.052, 0.05), STEADY + 2.0, blocked=True)
    cap([slow, fast], [QUEUE] * 2)
    assert fast.cap == UNLIMITED


def test_a_cap_leaves_something_on_the_slowest_path():
    transfers = [transfer(10), transfer(20)]
    cap(transfers, [QUEUE] * 2)
    assert {one.cap for one in transfers} == {LEAST}


def test_the_rate_follows_the_counters():
    one = Transfer()
    for second in range(20):
        one.take(PathInfo(min(second, 10) * 1000, 0.1, 0.05), float(second), blocked=True)
    assert 0 <= one.rate < 10, "it has stopped"
    assert one.busy <= 2 * STEADY


class Stream:
    """What is looked at of a TLS stream, over a real TCP connection."""

    def __init__(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.sock = socket.create_connection(server.getsockname())
            self.far = server.accept()[0]
        self.broken, self.shared, self.blocked = False, True, True
        self.user, self.cap, self.share = "", UNLIMITED, UNLIMITED

    def was_blocked(self):
        return self.blocked

    @property
    def pacing(self):
        return struct.unpack("I", self.sock.getsockopt(socket.SOL_SOCKET, PACING, 4))[0]

    def close(self):
        self.broken = True
        self.sock.close()
        self.far.close()


def known():
    return PATHS.to("192.0.2.1").figures


def test_what_the_path_limits_is_remembered_as_one():
    remember("192.0.2.1", [transfer(300_000), transfer(500_000), transfer(1000, blocked=False)], [QUEUE] * 3)
    assert known()[:3] == (800_000, 0.05, 0.0)
    remember("192.0.2.1", [transfer(300_000)], [QUEUE])
    assert known().rate == 300_000, "a full queue says that there is no more now"


def test_without_a_queue_the_path_has_at_least_that_rate_and_the_loss_is_its_own():
    remember("192.0.2.1", [transfer(800_000)], [QUEUE])
    remember("192.0.2.1", [transfer(99_000, lost=1000), transfer(90_000, lost=10_000)], [EMPTY] * 2)
    assert known()[:3] == (800_000, 0.05, 0.01)


def test_a_path_that_is_cut_off_is_remembered_as_it_was():
    one = transfer(300_000)
    remember("192.0.2.1", [one], [QUEUE])
    for second in range(10):
        one.take(PathInfo(300_000 * (STEADY + 1), 0.1, 0.05, second), 10.0 + second, blocked=True)
        remember("192.0.2.1", [one], [QUEUE])
    assert known().rate == 300_000


def test_what_the_application_limits_or_nobody_measures_is_not_remembered():
    remember("192.0.2.1", [transfer(300_000, blocked=False)], [EMPTY])
    remember("192.0.2.1", [transfer(300_000)], [PathInfo(0, 0.1, 0.0)])
    assert known() is None


@pytest.fixture
def streams(monkeypatch):
    made = [Stream() for _ in range(3)]
    monkeypatch.setattr(fair_rates, "LOOK", 0.001)
    moved = dict.fromkeys((one.sock for one in made), 0)

    def measured(sock):
        info = path_info(sock)
        if info is None:
            return None
        moved[sock] += 1000
        return PathInfo(moved[sock], 0.1, 0.05)

    monkeypatch.setattr(fair_rates, "path_info", measured)
    yield made
    for one in made:
        one.close()


def test_the_kernel_paces_those_that_share_a_path_and_no_other(streams):
    rates = FairRates()
    for stream in streams:
        rates.enter(stream)
    assert until(lambda: all(stream.pacing < UNLIMITED for stream in streams))
    assert PATHS.to("127.0.0.1").figures.rate > 0
    streams[0].blocked = False  # it has less to send now
    assert until(lambda: not streams[0].shared)
    assert streams[0].pacing == UNLIMITED
    streams[1].close()
    assert until(lambda: streams[2].pacing == UNLIMITED), "it is alone"
    streams[2].close()
    assert until(lambda: not rates._paths and not rates._running), "nothing is left, and nothing runs"


def test_a_crowd_is_held_from_its_first_moment_until_half_of_it_is_left(monkeypatch):
    monkeypatch.setattr(fair_rates, "path_info", lambda _: QUEUE)
    path, made = Path(("127.0.0.1", "")), [Stream() for _ in range(CROWD + 2)]
    for stream in made[:CROWD]:
        path.add(stream)
    assert {stream.pacing for stream in made} == {UNLIMITED}
    path.add(made[CROWD])
    path.add(made[CROWD + 1])
    assert max(stream.pacing for stream in made) <= FIRST
    path.look()
    assert max(stream.pacing for stream in made) < UNLIMITED
    for stream in made[CROWD // 2 :]:
        stream.close()
    path.look()
    assert {stream.pacing for stream in made[: CROWD // 2]} == {UNLIMITED}
    for stream in made[: CROWD // 2]:
        stream.close()


def test_those_of_a_crowd_that_take_little_leave_the_rest_of_their_part():
    path, crowd = Path(("127.0.0.1", "")), Crowd(3_000_000)
    crowd.finding = False

    def part(*rates):
        path.transfers = {number: transfer(rate) for number, rate in enumerate(rates)}
        path._crowd = crowd
        crowd.look = lambda *_: None
        for one in path.transfers.values():
            one.cap = 100_000
        for _ in range(STILL):
            assert one.cap == 100_000
            path._decide([*path.transfers.values()], [QUEUE], 0.25)
        [most] = {one.cap for one in path.transfers.values()}
        return most

    assert part(*[0] * 14, *[10_000] * 14, 100_000, 90_000) == (3_000_000 - 140_000) // 2
    assert part(*[70_000] * 10, *[100_000] * 20) == 100_000, "the path is not as even as this"
    assert part(*[10_000] * 30) == 100_000, "the rate may rise faster than they do"
    for one in path.transfers.values():
        one.busy = -1  # the last of them have nothing to send any more, while the path is cut off
    assert path._part(crowd, [0.0, 10_000.0]) == 3_000_000
    crowd.finding = True
    assert part(*[0] * 29, 100_000) == 100_000


def test_a_crowd_nearby_is_not_held(monkeypatch):
    monkeypatch.setattr(fair_rates, "path_info", lambda _: PathInfo(0, 0.001, 0.0001))
    path, stream = Path(("127.0.0.1", "")), Stream()
    for number in range(CROWD):
        path.transfers[number] = Transfer()
    path.add(stream)
    assert stream.pacing == UNLIMITED
    stream.close()


def test_a_path_is_measured_by_the_kernel():
    stream = Stream()
    stream.sock.sendall(bytes(5000))
    assert until(lambda: path_info(stream.sock).delivered == 5001)  # with the SYN
    info = path_info(stream.sock)
    assert 0 < info.shortest_rtt <= 1
    assert 0 < info.rtt <= 1
    stream.close()
    assert path_info(stream.sock) is None
