"""Settings of this machine's kernel that cost speed, and the commands that change them."""

from collections.abc import Iterator
from pathlib import Path

from lane.stream import Finding

ROOT = Path("/proc/sys")
UDP_BUFFER = 4 << 20
"""Bytes of buffer that UDP sockets need on fast lines (docs/TUNING.md)."""
TCP_BUFFER = 4 << 20
"""Bytes up to which the kernel should let the buffers of a TCP connection grow."""


def findings(root: Path = ROOT) -> Iterator[Finding]:
    """What costs speed; one finding if nothing does. `root`: the folder of the settings."""
    if not (root / "net").is_dir():
        yield Finding("note", "kernel", "not Linux: its settings were not looked at")
        return
    found = [*_buffers(root), *_congestion(root), *_switches(root)]
    yield from found or [Finding("ok", "kernel", "no setting that costs speed")]


def _buffers(root: Path) -> Iterator[Finding]:
    small = [name for name in ("rmem_max", "wmem_max") if 0 < _number(root, f"net/core/{name}") < UDP_BUFFER]
    if small:
        values = " ".join(f"net.core.{name}={UDP_BUFFER}" for name in small)
        least = min(_number(root, f"net/core/{name}") for name in small) // 1024
        text = f"UDP buffers end at {least} KB, unless lane runs as root: slow on fast lines"
        yield Finding("warn", "kernel", text, f"sudo sysctl -w {values}")
    for name in ("tcp_rmem", "tcp_wmem"):
        words = _read(root, f"net/ipv4/{name}").split()
        if len(words) == 3 and words[2].isdigit() and int(words[2]) < TCP_BUFFER:
            text = f"{name}: TCP buffers end at {int(words[2]) // 1024} KB: slow on long fast paths"
            yield Finding(
                "warn", "kernel", text, f"sudo sysctl -w net.ipv4.{name}='{words[0]} {words[1]} {TCP_BUFFER}'"
            )


def _congestion(root: Path) -> Iterator[Finding]:
    """BBR, which all users may only use where it is allowed."""
    if not (allowed := _read(root, "net/ipv4/tcp_allowed_congestion_control").split()) or "bbr" in allowed:
        return
    change = f"sudo sysctl -w net.ipv4.tcp_allowed_congestion_control='{' '.join([*allowed, 'bbr'])}'"
    if "bbr" not in _read(root, "net/ipv4/tcp_available_congestion_control").split():
        change = f"sudo modprobe tcp_bbr; {change}"
    text = "BBR is not allowed for TCP: tls is slow where packets are lost, unless lane runs as root"
    yield Finding("warn", "kernel", text, change)


def _switches(root: Path) -> Iterator[Finding]:
    for name in ("tcp_window_scaling", "tcp_sack", "tcp_timestamps"):
        if _read(root, f"net/ipv4/{name}").strip() == "0":
            yield Finding("warn", "kernel", f"{name} is off", f"sudo sysctl -w net.ipv4.{name}=1")


def _number(root: Path, name: str) -> int:
    text = _read(root, name).strip()
    return int(text) if text.isdigit() else 0


def _read(root: Path, name: str) -> str:
    """A setting; "" if there is none, as in some containers."""
    try:
        return (root / name).read_text()
    except OSError:
        return ""
