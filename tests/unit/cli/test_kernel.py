"""Settings of a kernel, in a folder."""

import pytest

from lane.cli import kernel

GOOD = {
    "net/core/rmem_max": "4194304",
    "net/core/wmem_max": "4194304",
    "net/ipv4/tcp_rmem": "4096\t131072\t33554432",
    "net/ipv4/tcp_wmem": "4096\t16384\t4194304",
    "net/ipv4/tcp_allowed_congestion_control": "reno cubic bbr",
    "net/ipv4/tcp_available_congestion_control": "reno cubic bbr",
    "net/ipv4/tcp_window_scaling": "1",
    "net/ipv4/tcp_sack": "1",
    "net/ipv4/tcp_timestamps": "1",
}


@pytest.fixture
def settings(tmp_path):
    def write(**changes):
        for name, value in {
            **GOOD,
            **{key.replace("__", "/"): value for key, value in changes.items()},
        }.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(f"{value}\n")
        return list(kernel.findings(tmp_path))

    return write


def test_a_good_kernel_is_good(settings):
    assert [one.state for one in settings()] == ["ok"]


@pytest.mark.parametrize(
    ("change", "mend"),
    [
        ({"net__core__rmem_max": "212992"}, "sudo sysctl -w net.core.rmem_max=4194304"),
        ({"net__core__wmem_max": "212992"}, "sudo sysctl -w net.core.wmem_max=4194304"),
        ({"net__ipv4__tcp_wmem": "1 2 3000"}, "sudo sysctl -w net.ipv4.tcp_wmem='1 2 4194304'"),
        ({"net__ipv4__tcp_sack": "0"}, "sudo sysctl -w net.ipv4.tcp_sack=1"),
        (
            {"net__ipv4__tcp_allowed_congestion_control": "reno cubic"},
            "sudo sysctl -w net.ipv4.tcp_allowed_congestion_control='reno cubic bbr'",
        ),
        (
            {
                "net__ipv4__tcp_allowed_congestion_control": "reno cubic",
                "net__ipv4__tcp_available_congestion_control": "reno cubic",
            },
            "sudo modprobe tcp_bbr; sudo sysctl -w net.ipv4.tcp_allowed_congestion_control='reno cubic bbr'",
        ),
    ],
)
def test_what_costs_speed_comes_with_the_command_that_mends_it(change, mend, settings):
    assert [(one.state, one.mend) for one in settings(**change)] == [("warn", mend)]


def test_what_can_not_be_read_is_left_out(tmp_path):
    (tmp_path / "net").mkdir()
    assert [one.state for one in kernel.findings(tmp_path)] == ["ok"]


def test_another_system_is_not_judged(tmp_path):
    assert [one.state for one in kernel.findings(tmp_path)] == ["note"]
