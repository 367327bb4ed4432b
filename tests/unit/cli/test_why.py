"""`lane why`: how snapshots are shown to people, and what its options mean."""

import json
import time
from pathlib import Path

import pytest

from lane.address import Address
from lane.cli import option_parser, why, why_report
from lane.config import WhyConfig, client_config, why_config
from lane.errors import ConfigError, Unreachable, UsageError
from lane.meeting import default_path

NOON = 1_700_000_000.0 - 1_700_000_000 % 86400 + 43200
AUTO = {
    "time": NOON + 200,
    "since": NOON,
    "choice": "tls",
    "reason": "no loss and it costs the least CPU",
    "sessions": 3,
    "lanes": [
        {"name": "tls", "alive": True, "carries": True, "rtt": 0.052, "best_rtt": 0.05, "delay": 0.053,
         "loss": 0.0, "goodput": 27.9e6 / 8, "limited": True, "cost": 1, "silent": None},
        {"name": "quic", "alive": True, "carries": False, "rtt": 0.0512, "best_rtt": 0.05, "delay": 0.055,
         "loss": None, "goodput": None, "limited": None, "cost": 20, "silent": None},
        {"name": "pigeon", "alive": False, "carries": False, "rtt": 0.0013, "best_rtt": None, "delay": None,
         "loss": 0.098, "goodput": 0, "limited": None, "cost": 1.52, "silent": 70},
    ],
    "changes": [
        {"time": NOON, "from": "quic", "to": "tls", "reason": "no loss for 8 s and tls costs less"},
        {"time": NOON - 35, "from": "tls", "to": "quic", "reason": "lost 9.8 %"},
    ],
}  # fmt: skip
WHOLE = """\
carried by tls since 12:00:00 (3 min): no loss and it costs the least CPU
3 sessions at the moment

lane    state         round trip  delay  loss   goodput      CPU/byte
tls     carries       52 ms       53 ms  0.0 %  27.9 Mbit/s  1x
quic    answers       51 ms       55 ms  -      -            20x
pigeon  silent 1 min  1.3 ms      -      9.8 %  0.0 Mbit/s   1.5x

last changes
12:00:00  quic -> tls  no loss for 8 s and tls costs less
11:59:25  tls -> quic  lost 9.8 %"""


@pytest.fixture(autouse=True)
def _noon(monkeypatch):
    """All that happens does so on one day."""
    monkeypatch.setattr(time, "localtime", lambda seconds=NOON: time.gmtime(seconds))


def test_the_whole():
    assert why_report.whole(AUTO) == WHOLE


def test_the_figures_on_one_line():
    assert why_report.brief(AUTO) == "12:03:20  tls  27.9 Mbit/s  loss 0.0 %  round trip 52 ms"


def test_one_transport_of_which_little_is_known():
    lane = {"name": "quic", "alive": None, "carries": True}
    snapshot = {
        "time": NOON, "since": NOON - 100_000, "choice": "quic", "reason": "--transport is quic",
        "sessions": 1, "lanes": [lane], "changes": [],
    }  # fmt: skip
    assert why_report.whole(snapshot) == (
        "carried by quic since 2023-11-13 08:13:20 (1 d): --transport is quic\n"
        "1 session at the moment\n\n"
        "lane  state    round trip  delay  loss  goodput  CPU/byte\n"
        "quic  carries  -           -      -     -        -"
    )
    assert why_report.brief(snapshot) == "12:00:00  quic  -  loss -  round trip -"


OUT = {
    **AUTO,
    "outage": {"since": NOON + 175, "reason": "no answer (tls, quic)"},
    "failure": {"time": NOON + 195, "reason": "no answer"},
    "sessions": 1,
    "lanes": [
        {"name": "tls", "alive": False, "carries": False, "silent": 25, "why": "no answer", "cost": 1},
        {"name": "quic", "alive": None, "carries": False, "silent": 3.2, "why": "", "cost": 20},
    ],
    "changes": [],
}


def test_an_outage_is_told_first_and_nothing_is_said_to_carry():
    assert why_report.whole(OUT) == (
        "not reached since 12:02:55 (25 s): no answer (tls, quic)\n"
        "1 session at the moment\n\n"
        "lane  state        round trip  delay  loss  goodput  CPU/byte\n"
        "tls   silent 25 s  -           -      -     -        1x\n"
        "quic  silent 3 s   -           -      -     -        20x\n\n"
        "tls: no answer"
    )
    assert why_report.brief(OUT) == "12:03:20  not reached since 12:02:55 (25 s): no answer (tls, quic)"
    for broken in ({}, {"since": "x", "reason": 7}, {"since": None}):
        assert why_report.whole({**OUT, "outage": broken}).startswith("not reached since -: -\n")


def test_a_server_that_is_not_there_is_told_first():
    snapshot = {**AUTO, "failure": {"time": NOON + 195, "reason": "cannot reach h:1: refused"}}
    assert (
        why_report.whole(snapshot)
        == f"the server was not reached 5 s ago: cannot reach h:1: refused\n{WHOLE}"
    )
    assert why_report.whole({**AUTO, "failure": None}) == WHOLE


def test_no_lane_at_all():
    snapshot = {"choice": None, "reason": "no lane answers", "lanes": []}
    assert why_report.whole(snapshot) == "carried by nothing: no lane answers"
    assert why_report.brief(snapshot) == "-  -  -  loss -  round trip -"


@pytest.mark.parametrize(
    ("seconds", "text"), [(-1, "0 s"), (9.6, "10 s"), (60, "1 min"), (7200, "2 h"), (90000, "1 d")]
)
def test_how_long_ago(seconds, text):
    assert f"({text}): " in why_report.whole({**AUTO, "time": NOON + seconds})


@pytest.mark.parametrize("odd", [None, "text", True, [], {}, float("inf"), 10**400, 1e300, [{}], [1], -5])
def test_what_another_version_may_say_is_no_reason_to_fail(odd):
    for key in AUTO:
        assert "carried by" in why_report.whole({**AUTO, key: odd})
        why_report.brief({**AUTO, key: odd})
    for key in AUTO["lanes"][0]:
        why_report.whole({**AUTO, "lanes": [{**AUTO["lanes"][0], key: odd}]})
    for key in AUTO["changes"][0]:
        why_report.whole({**AUTO, "changes": [{**AUTO["changes"][0], key: odd}]})


def test_nothing_reaches_the_terminal_that_is_not_printable():
    change = {"time": NOON, "from": "\x1b[2J", "to": "tls", "reason": "a\nb"}
    snapshot = {**AUTO, "reason": "\x1b]0;x\x07", "choice": "t\rls", "changes": [change]}
    text = why_report.whole(snapshot) + why_report.brief(snapshot)
    assert all(line.isprintable() for line in text.splitlines())
    assert "?[2J -> tls  a?b" in text


def test_only_the_latest_changes_are_shown():
    changes = [{"time": NOON + n, "from": "a", "to": "b", "reason": f"no {n}."} for n in range(30)]
    text = why_report.whole({**AUTO, "changes": changes})
    assert [n for n in range(30) if f"no {n}." in text] == list(range(20, 30))


# The command


@pytest.fixture
def answers(monkeypatch):
    """Set what the client says."""

    def set_(*snapshots, end=None):
        def ask(path, *, follow):
            yield from snapshots if follow else snapshots[:1]
            if end:
                raise end

        monkeypatch.setattr(why, "ask", ask)

    return set_


def run(**settings):
    return why.run(WhyConfig(**{"control": Path("c"), "json": False, "follow": False, **settings}), None)


def test_to_follow_is_the_whole_then_what_is_new(answers, capsys):
    new = {"time": NOON + 201, "from": "tls", "to": "quic", "reason": "lost 5 %"}
    later = {**AUTO, "time": NOON + 201, "choice": "quic", "changes": [new, *AUTO["changes"]]}
    answers(AUTO, AUTO, later, later, end=KeyboardInterrupt())
    assert run(follow=True) == 0
    assert capsys.readouterr().out.removeprefix(WHOLE).splitlines() == [
        "",
        "12:03:20  tls  27.9 Mbit/s  loss 0.0 %  round trip 52 ms",
        "12:03:21  tls -> quic  lost 5 %",
        "12:03:21  quic  -  loss -  round trip 51 ms",
        "12:03:21  quic  -  loss -  round trip 51 ms",
    ]


def test_json_is_a_line_for_each_snapshot(answers, capsys):
    answers(AUTO, {"a": "\n"}, end=KeyboardInterrupt())
    assert run(json=True, follow=True) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line) for line in lines] == [AUTO, {"a": "\n"}]


def test_an_interrupt_is_the_end_only_for_who_follows(answers):
    answers(end=KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        run()


def test_a_client_that_ends_is_said(answers, capsys):
    answers(AUTO, end=Unreachable("gone"))
    with pytest.raises(Unreachable):
        run(follow=True)
    assert capsys.readouterr().out == WHOLE + "\n"


def configured(*argv):
    return why_config(option_parser.parse("why", [str(each) for each in argv], lambda line: None)[0])


def test_it_reads_the_clients_files(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/7")
    assert configured() == WhyConfig(default_path(Address("127.0.0.1", 1080)), False, False)
    file = tmp_path / "client.conf"
    file.write_text("server = embedded\nlisten = [::1]:99\ncongestion = cubic\n")
    assert configured("-c", file, "--json").control == default_path(Address("::1", 99))
    file.write_text("listen = [::1]:99\ncontrol = /c\n")
    assert configured("-c", file, "--follow") == WhyConfig(Path("/c"), False, True)
    file.write_text("control = off\n")
    with pytest.raises(ConfigError, match=f"^{file}: control: a client without a socket can't be asked$"):
        configured("-c", file)
    assert configured("-c", file, "--control", "d").control == Path("d")
    with pytest.raises(UsageError, match="--control: expected a path"):
        configured("--control", "")


def test_where_the_client_listens_for_it():
    made = [client_config(option_parser.defaults("client", control=text)) for text in ("auto", "off", "~/c")]
    assert [each.control for each in made] == ["auto", "off", Path("~/c").expanduser()]


def test_where_no_client_answers(run_lane, tmp_path):
    result = run_lane("why", "--control", "c.sock")
    line = "lane: no client answers at c.sock: No such file or directory\n"
    assert (result.returncode, result.stdout, result.stderr) == (69, "", line)
