"""The systemd unit of the client or the server and its configuration: how they are written and taken away.

The first line of each has a checksum of the rest. So lane knows what it wrote and nobody changed, and it
neither overwrites nor removes anything else. All is checked before the first change.
"""

import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lane
from lane.cli.shipped import shipped
from lane.errors import ConfigError
from lane.text import complain, printable

LINK = "/etc/lane/link"
"""The file with the client's link, which only root may read."""
_CREDENTIAL = "@/run/credentials/lane-client.service/link"
_MARK = re.compile(r"# Written by `lane service install`, [^\n]*\(([0-9a-f]{16})\)\n")
_PATIENCE = 120.0
"""Seconds for systemctl; a service that stops may take 30."""
_HIDDEN = ("/home", "/root", "/run/user", "/tmp", "/var/tmp")  # noqa: S108
"""Folders that the units hide from the service (ProtectHome, PrivateTmp)."""


class Unit:
    """The files of the service `role`, `client` or `server`, of the system in `root`."""

    def __init__(self, role: str, root: Path) -> None:
        self.role = role
        self.name = f"lane-{role}"
        file = f"{self.name}.service"
        self.path = root / "etc/systemd/system" / file
        self.packaged = [root / folder / "systemd/system" / file for folder in ("usr/lib", "lib")]
        self.conf = root / "etc/lane" / f"{role}.conf"

    def check(self) -> None:
        """Raise ConfigError if the unit there is not what lane wrote."""
        if os.path.lexists(self.path) and not is_ours(self.path):
            raise ConfigError(
                f"{self.path} was not written by lane service install, or was changed since: remove it"
                f" first, or keep changes in a file of its own (systemctl edit {self.name})"
            )

    def configuration(self) -> str:
        """The configuration at first. A client reads its link from the service manager."""
        text = shipped(f"lane/{self.role}.conf").read_text()
        return text.replace("server = embedded\n", f"server = {_CREDENTIAL}\n")

    def text(self, conf: str) -> str:
        """The unit for the configuration `conf`."""
        text = shipped(f"lane/{self.name}.service").read_text()
        text = text[text.index("[Unit]") :].replace("/usr/local/bin/lane", _quoted(program()))
        return text.replace("#LoadCredential=link", "LoadCredential=link") if _CREDENTIAL in conf else text


class Plan:
    """What is done to the system in `root`, in order. `dry`: nothing is done, only told."""

    def __init__(self, root: Path, *, dry: bool) -> None:
        self._root = root
        self._dry = dry
        self._steps: list[tuple[str, str, Callable[[], None]]] = []

    def demand(self, more: Callable[[], str] = lambda: "") -> None:
        """Raise ConfigError if this can't work here; only say so if `dry`. `more` returns a reason or ""."""
        for reason in (self._lacking(), more()):
            if reason and not self._dry:
                raise ConfigError(reason)
            if reason:
                complain(f"lane: it would fail here: {reason}")

    def note(self, text: str) -> None:
        """Say `text`."""
        self._steps.append((text, text, lambda: None))

    def write(self, path: Path, text: str) -> None:
        """Write a file, with the line that `is_ours` recognizes."""
        self._steps.append((f"wrote {path}", f"would write {path}", lambda: _write(path, text)))

    def remove(self, path: Path) -> None:
        """Remove a file."""
        self._steps.append((f"removed {path}", f"would remove {path}", path.unlink))

    def command(self, *words: str) -> None:
        """Run a command."""
        line = " ".join(words)
        self._steps.append((f"ran {line}", f"would run {line}", lambda: _run(words)))

    def carry_out(self) -> None:
        """Do everything, or tell it. Raises ConfigError."""
        for done, planned, action in self._steps:
            if not self._dry:
                try:
                    action()
                except OSError as error:
                    raise ConfigError(f"{error.filename or 'systemctl'}: {error.strerror}") from None
            print(planned if self._dry else done, flush=True)

    def _lacking(self) -> str:
        if not (self._root / "run/systemd/system").is_dir():
            return "this system is not run by systemd (there is no /run/systemd/system)"
        return "lane service needs root: put sudo before it" if os.geteuid() else ""


def is_ours(path: Path) -> bool:
    """Whether lane wrote the file at `path`, and nobody has changed it."""
    if path.is_symlink() or not path.is_file():
        return False
    text = path.read_bytes().decode(errors="replace")
    mark = _MARK.match(text)
    return mark is not None and mark[1] == _sum(text[mark.end() :])


def program() -> Path:
    """The lane that runs now."""
    return Path(sys.argv[0]).absolute() if Path(sys.argv[0]).name == "lane" else Path(sys.executable)


def fitness() -> str:
    """Why a service can't run the lane that runs now; "" if it can."""
    needed = [program(), Path(sys.prefix), Path(sys.base_prefix), Path(lane.__file__)]
    for path in [*needed, *(each.resolve() for each in needed)]:
        if any(path.is_relative_to(folder) for folder in _HIDDEN) or not _reachable(path):
            return f"a service can't see {path}: install lane in /opt/lane (docs/INSTALL.md says how)"
    return ""


def _reachable(path: Path) -> bool:
    """Whether all users may enter the folders above `path`."""
    try:
        return all(folder.stat().st_mode & 0o001 for folder in path.parents)
    except OSError:
        return False


def _quoted(path: Path) -> str:
    """The words that start lane, for ExecStart (systemd.service(5))."""
    text = str(path).replace("%", "%%").replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    word = f'"{text}"' if re.search(r"[^\w./%+-]", text) else text
    return word if path.name == "lane" else f"{word} -m lane"


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write(path: Path, text: str) -> None:
    if not path.parent.exists():
        path.parent.mkdir(parents=True)
        path.parent.chmod(0o755)  # whatever root's umask is: the service's user reads there
    new = path.with_name(f".{path.name}.new")
    mark = f"# Written by `lane service install`, which sees here whether anybody changed it ({_sum(text)})\n"
    new.write_text(mark + text)
    new.chmod(0o644)
    new.replace(path)


def _run(words: tuple[str, ...]) -> None:
    try:
        result = subprocess.run(  # noqa: S603
            words, capture_output=True, text=True, check=False, timeout=_PATIENCE, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        raise ConfigError(f"{' '.join(words)} takes longer than {_PATIENCE:g} s") from None
    if result.returncode:
        reason = printable(result.stderr.strip().replace("\n", "; ")) or f"exit status {result.returncode}"
        raise ConfigError(f"{' '.join(words)}: {reason}")
