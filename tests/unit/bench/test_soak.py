"""What bench/soak.py makes of what it saw: it must not excuse too much, nor call a warm-up a leak."""

import json
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
import soak
import soak_load
import soak_plot
from soak_kinds import SHORT

SECS = 1200
GOOD = dict.fromkeys(SHORT, 5)
MOVED = {"down": 1, "up": 1, "talk": 1}


class FakeLoad:
    def __init__(self, client, failures=(), account="good", complaints=(), killed=None):
        self.client, self.killed = client, killed
        self._failures, self._complaints = [*failures], [*complaints]
        self._account = {"done": GOOD, "bytes": MOVED} if account == "good" else account

    def told(self):
        return self._failures, self._account

    def complaints(self):
        return self._complaints


def failure(begin, end, *, grave=False, long=False):
    return {"kind": "socks5", "begin": begin, "end": end, "error": "E", "grave": grave, "long": long}


@pytest.fixture
def world(tmp_path):
    """Two clients and a server after a good run: a blackout from 100 to 106 s, all forgotten at 200 s."""
    lanes = []
    for name in ("server", "client", "mover"):
        log = tmp_path / name
        log.write_text(f"read again on SIGHUP: {'the accounts (1)' if name == 'server' else '/rules'}\n")
        lanes.append(SimpleNamespace(name=name, log=log, types=tmp_path / f"{name}.types"))
    loads = [FakeLoad(lane) for lane in lanes[1:]]
    outages = [(100, 106), (200, 200)]
    return SimpleNamespace(steady=lanes, loads=loads, outages=lambda client: outages, faults=[])


@pytest.fixture
def run(world):
    made = soak.Run(SECS, space=True)
    made.world, made.began, made.moves = world, 0, {("client", 5)}
    flat = [(second, 100.0) for second in range(0, SECS + 1, 5)]
    made.samples = {lane.name: {"rss": [*flat], "sessions": [*flat]} for lane in world.steady}
    return made


def judged(run):
    trends, failed, counts = run.judge()
    return [key for key, trend in trends.items() if trend.grows], failed, counts


def test_a_good_run(run):
    grows, failed, counts = judged(run)
    assert (grows, failed, counts["excused"]) == ([], [], 0)
    assert counts["done"]["socks5"] == 10


def test_what_grows_is_named(run, capsys):
    run.samples["server"]["sessions"] = [(second, 100 + second / 20) for second in range(0, SECS + 1, 5)]
    run.world.steady[0].types.write_text(
        json.dumps([700, {"Session": 100}]) + "\n" + json.dumps([1100, {"Session": 140}]) + "\n"
    )
    result, bad = soak.report(run)
    assert bad
    said = capsys.readouterr().out
    assert "GROWS: sessions of server: by 30 in the last 600 s, to 145" in said
    assert "('Session', 40)" in said
    assert [trend["name"] for trend in result["trends"] if trend["grows"]] == ["sessions"]


@pytest.mark.parametrize(
    ("begin", "end", "excused"),
    [
        (101, 102, 1),
        (90, 101, 1),
        (105, 130, 1),
        (110, 112, 1),
        (112, 113, 0),
        (10, 20, 0),
        (90, 99, 0),
        (199, 204, 1),
        (201, 202, 0),
    ],
)
def test_what_fails_in_a_blackout_is_excused(run, begin, end, excused):
    run.world.loads[0] = FakeLoad(run.world.steady[1], [failure(begin, end)])
    _, failed, counts = judged(run)
    assert (counts["excused"], len(failed)) == (excused, 1 - excused)


@pytest.mark.parametrize(("begin", "how"), [(101, {"grave": True}), (0, {"long": True})])
def test_what_no_blackout_excuses(run, begin, how):
    run.world.loads[0] = FakeLoad(run.world.steady[1], [failure(begin, 103, **how)])
    assert len(judged(run)[1]) == 1


def test_what_is_to_last_and_begins_in_a_blackout_may_not_come_to_be(run):
    run.world.loads[0] = FakeLoad(run.world.steady[1], [failure(101, 130, long=True)])
    assert judged(run)[1] == []


def test_what_fails_once_its_client_was_killed_says_nothing(run):
    lost = [failure(300, 310, grave=True), failure(300, 304)]
    run.world.loads.append(FakeLoad(SimpleNamespace(name="visitor1"), lost, killed=305))
    _, failed, counts = judged(run)
    assert counts["excused"] == 1
    assert failed == ["visitor1: socks5 at 300.0..304.0 s: E"]


def test_a_load_that_did_nothing_fails(run):
    lazy = {"done": {**GOOD, "bind": 0}, "bytes": {"down": 1, "up": 1}}
    run.world.loads[1] = FakeLoad(run.world.steady[2], account=lazy)
    assert judged(run)[1] == [
        "mover: nothing was done of bind",
        "mover: nothing was done of talk",
    ]


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda run: run.moves.clear(), "nothing moved"),
        (lambda run: run.world.steady[1].log.write_text(""), "did not read rules again"),
        (lambda run: run.world.steady[0].log.write_text(""), "server did not read the accounts again"),
        (lambda run: run.faults.append("server ended with -6"), "server ended"),
        (lambda run: run.world.loads.append(FakeLoad(run.world.steady[1], account=None)), "did not come to"),
        (lambda run: run.world.loads.append(FakeLoad(run.world.steady[1], complaints=["boom"])), "boom"),
        (lambda run: run.samples["client"].update(rss=[(0, 1)]), "too few samples of rss"),
    ],
)
def test_what_else_is_bad(run, change, word, capsys):
    change(run)
    assert soak.report(run)[1]
    assert word in capsys.readouterr().out


def test_a_minute_is_judged_roughly():
    """Everything warms up in it: only what doubles counts."""
    run = soak.Run(60, space=False)
    slow = [(second, 100 + second) for second in range(61)]
    fast = [(second, second**2) for second in range(61)]
    run.samples = {"server": {"sessions": slow, "carriers": fast}}
    assert [key for key, trend in run._growth().items() if trend.grows] == [("server", "carriers")]


@pytest.mark.parametrize(("losses", "bad"), [(17, 0), (18, 18)])
def test_in_a_minute_beside_others_some_may_fail_and_none_be_wrong(run, losses, bad):
    """There are 170 exchanges of good runs."""
    run.rough = True
    run.world.loads[0] = FakeLoad(run.world.steady[1], [failure(500, 501)] * losses)
    assert len(judged(run)[1]) == bad
    run.world.loads[0] = FakeLoad(run.world.steady[1], [failure(500, 501, grave=True)])
    assert len(judged(run)[1]) == 1


@pytest.mark.parametrize("minutes", [1, 10, 30, 600])
def test_the_last_half_has_whole_cycles(minutes):
    run = soak.Run(minutes * 60, space=False)
    assert soak.CYCLE_LEAST <= run.cycle <= soak.CYCLE_MOST
    assert run.secs / run.cycle >= 5


def test_what_the_picture_is_made_of():
    samples = [(second, second % 2) for second in range(8)]
    assert soak_plot.points(samples, 4) == (
        [0.5, 2.5, 4.5, 6.5],
        [0, 0, 0, 0],
        [0.5, 0.5, 0.5, 0.5],
        [1, 1, 1, 1],
    )
    assert soak_plot.panels({"a": {"ports": 1, "rss": 1}, "b": {"turns": 1}}) == ["rss", "ports", "turns"]


@pytest.mark.timeout(60)
@pytest.mark.parametrize("attempt", range(3))
def test_its_applications_end_when_told_so_again_and_again(attempt, tmp_path):
    """As they are: a signal that comes while another one is handled must not stop them for good."""
    ends = json.dumps(dict.fromkeys(("proxy", "tcp", "web", "udp"), 9))
    command = [sys.executable, soak_load.__file__, ends, "--kinds", "refused,socks5,idle", "--every", "0.05"]
    said = tmp_path / "said"
    with said.open("w") as file, subprocess.Popen(command, stdout=file) as process:
        try:
            while "began" not in said.read_text():
                time.sleep(0.01)
            while process.poll() is None:
                process.send_signal(signal.SIGTERM)
        finally:
            process.kill()
    assert process.returncode == 0
    assert "done" in json.loads(said.read_text().splitlines()[-1])
