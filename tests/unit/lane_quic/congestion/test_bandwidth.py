"""The bandwidth: the largest rate of late, and what a collapse makes of it."""

from lane_quic.congestion.bandwidth import COLLAPSE_ROUNDS, ROUNDS, Bandwidth


def end(bandwidth, rate, *, limited=False, queue=False):
    bandwidth.note(rate, limited=limited)
    bandwidth.end_round(limited=limited, queue=queue)


def test_it_is_the_largest_rate_of_the_last_rounds():
    bandwidth = Bandwidth()
    for rate in (2e6, 3e6, *[2e6] * (ROUNDS - 1)):
        end(bandwidth, rate)
    assert bandwidth.value == 3e6
    end(bandwidth, 2e6)
    end(bandwidth, 1e6)
    assert bandwidth.value == 2e6


def test_what_the_application_limits_can_only_raise_it():
    bandwidth = Bandwidth()
    for rate in (2e6, 1e6, 0.0, 3e6, *[1e6] * 2 * ROUNDS):
        end(bandwidth, rate, limited=True)
    assert bandwidth.value == 3e6


def test_behind_a_queue_a_collapse_is_believed_after_three_rounds():
    for queue in (True, False):
        bandwidth = Bandwidth()
        end(bandwidth, 9e6)
        for _ in range(COLLAPSE_ROUNDS):
            assert bandwidth.value == 9e6
            end(bandwidth, 1e6, queue=queue)
        assert bandwidth.value == (1e6 if queue else 9e6)


def test_another_start_forgets_the_rates_and_tells_the_largest():
    bandwidth = Bandwidth()
    end(bandwidth, 9e6)
    for _ in range(COLLAPSE_ROUNDS):
        end(bandwidth, 1e6, queue=True)
    assert bandwidth.start_again() == 9e6
    assert bandwidth.value == 0
    end(bandwidth, 2e6)
    assert bandwidth.start_again() == 2e6


def test_the_start_ends_after_three_rounds_without_growth():
    bandwidth, seen = Bandwidth(), []
    for rate in (1e6, 2e6, 2.4e6, 2.5e6, 2.5e6, 2.6e6, 2.6e6):
        end(bandwidth, rate)
        seen.append(bandwidth.ends_growth())
    assert seen == [False] * 6 + [True]
