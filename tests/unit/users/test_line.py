"""Who is next: bytes are shared equally, whatever the pieces are, and a rare small one goes first."""

from collections import Counter

from lane.users.line import Line


def served(line, rounds, sizes):
    """Bytes that each flow of `sizes` gets, which has the next piece in line as soon as the last one went."""
    got = Counter()
    for flow, size in sizes.items():
        line.join(flow, size, flow)
    for _ in range(rounds):
        flow, size, _ = line.next()
        got[flow] += size
        line.join(flow, size, flow)
    return got


def test_flows_get_equal_bytes_with_unequal_pieces():
    got = served(Line(), 3000, {"large": 10000, "small": 100, "middle": 3000})
    assert max(got.values()) - min(got.values()) <= 2 * 10000


def test_a_small_piece_does_not_wait_behind_a_hundred_that_had_their_share():
    line = Line()
    served(line, 1000, dict.fromkeys(range(100), 5000))
    line.join("message", 50, "")
    ahead = 0
    while line.next()[0] != "message":
        ahead += 1
    assert ahead <= 100


def test_a_flow_that_was_away_gets_nothing_for_that_time():
    line = Line()
    served(line, 1000, {"a": 1000, "b": 1000})
    line.join("new", 1000, "")
    got = Counter()
    for _ in range(300):
        flow, size, _ = line.next()
        got[flow] += 1
        line.join(flow, size, "")
    assert max(got.values()) - min(got.values()) <= 2


def test_who_leaves_is_forgotten_and_an_empty_line_remembers_nobody():
    line = Line()
    for number in range(50):
        line.join(number % 2, 10, number)
    assert line.leave(1) == list(range(1, 50, 2))
    assert len(line) == 25
    assert {line.next()[0] for _ in range(25)} == {0}
    assert (len(line), line._finished) == (0, {})
    assert line.leave(0) == []
