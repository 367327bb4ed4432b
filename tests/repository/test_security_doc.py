"""SECURITY.md names limits: they are those of the program."""

import re
from pathlib import Path

import lane_quic.listener
import lane_tls.listener
import pytest

from lane import fair
from lane.egress import listening, udp
from lane.net import guesses, resolver
from lane.server import probe, requests, server
from lane.session import empty_frames

TEXT = (Path(__file__).parents[2] / "SECURITY.md").read_text()
CONSTANTS = {
    "SPARES_PER_PEER": server.SPARES_PER_PEER,
    "MAX_PROBES": requests.MAX_PROBES,
    "MAX_STRANGERS": server.MAX_STRANGERS,
    "SILENCE": probe.SILENCE,
    "MOST": resolver.MOST,
    "WAITING": resolver.WAITING,
    "MOST_PER_USER": listening.MOST_PER_USER,
    "EMPTY": empty_frames.EMPTY,
    "EMPTY_RATE": empty_frames.EMPTY_RATE,
    "REFUSALS_AT_ONCE": requests.REFUSALS_AT_ONCE,
    "REFUSALS_PERIOD": requests.REFUSALS_PERIOD,
    "QUANTUM": fair.QUANTUM * 1000,
    "_HANDSHAKES": lane_tls.listener._HANDSHAKES,
    "MAX_HALF_OPEN": lane_quic.listener.MAX_HALF_OPEN,
    "LONGEST": guesses.LONGEST,
    "MOST_OF_ONE": guesses.MOST_OF_ONE,
    "MOST_WAITING": guesses.MOST_WAITING,
    "RETRY_ABOVE": lane_quic.listener.RETRY_ABOVE,
}
ROWS = [
    line.strip("| ").split(" | ")
    for line in TEXT.partition("## What one user")[2].splitlines()
    if "|" in line
]
STRANGERS = TEXT.partition("What a stranger can take:")[2]


@pytest.mark.parametrize("row", ROWS[2:], ids=lambda row: row[0])
def test_the_table_says_what_is_so(row, run_lane):
    _, most, where = row
    numbers = set(re.findall(r"[\d.]+(?:MB)?", most))
    for name in re.findall(r"`(\w+)`", where):
        assert f"{CONSTANTS[name]:g}" in numbers, f"{name} is {CONSTANTS[name]:g}"
    shown = run_lane("server", "--help").stdout if "(" in most else ""
    for option, value in re.findall(r"`(--[\w-]+)` \((\w+)\)", most):
        assert re.search(rf"{option} .*?\[(?:default: )?{value}\]|{option} [^-]*{value}", shown, re.DOTALL), (
            option
        )


def test_what_is_said_of_strangers_is_so():
    for number, name in re.findall(r"(\d+)[^`()]*?\(`(\w+)`\)", STRANGERS):
        assert int(number) == CONSTANTS[name]


def test_all_constants_are_told():
    assert all(f"`{name}`" in TEXT for name in CONSTANTS)
    assert f"beyond {udp.UNPAID} entries" in TEXT
