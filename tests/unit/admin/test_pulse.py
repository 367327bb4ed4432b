from time import monotonic

from lane.admin import pulse
from lane.admin.pulse import Pulse
from lane.testing.harness import until


def test_it_sees_how_late_the_event_loop_is_and_works_now_and_then(monkeypatch):
    monkeypatch.setattr(pulse, "BEAT", 0.01)
    monkeypatch.setattr(pulse, "PERIOD", 0.01)
    calls = []

    def work():
        calls.append(1)
        if len(calls) == 1:
            end = monotonic() + 0.2
            while monotonic() < end:  # nothing else runs meanwhile
                pass
            monkeypatch.setattr(pulse, "PERIOD", 0.0)

    watch = Pulse()
    watch.work = work
    until(lambda: watch.lag.sum > 0.1)
    watch.close()
    assert sum(watch.lag.counts[watch.lag.bounds.index(0.1) :]) >= 1
    assert len(calls) == 1  # it took long, so the next call comes late
