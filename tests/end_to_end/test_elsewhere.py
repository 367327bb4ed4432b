"""lane without what only Linux has, and without what Windows does not have either: see docs/INSTALL.md."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.processes import (
    TRANSPORTS,
    Lane,
    connected,
    echoes,
    start_client,
    start_server,
)

ROOT = Path(__file__).parents[2]
HIDES = (sys.executable, "-m", "tests.support.elsewhere")
PATH = {"PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "plugins"), os.environ.get("PYTHONPATH", "")])}
NEED_UNIX = {"lane.cli.forking", "lane.cli.groups", "lane.cli.workers", "lane.top.screen"}
"""Modules for servers of several processes, and for terminals, which only those commands import."""
NOT_INSTALLED = {"lane.__main__", "lane.cli.shells", "lane.cli.reference"}
"""Those that run at once, or whose libraries only developers have."""
SYSTEMS = pytest.mark.parametrize("system", ["macos", "windows"])


def modules():
    for top in (ROOT / "lane", ROOT / "plugins"):
        for path in sorted(top.rglob("*.py")):
            name = ".".join(path.relative_to(ROOT if top.name == "lane" else top).with_suffix("").parts)
            yield name.removesuffix(".__init__")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with start_server(tmp_path_factory.mktemp("server")) as server:
        yield server


@SYSTEMS
def test_all_modules_can_be_imported(system):
    names = {name for name in modules() if not name.startswith("lane.testing")} - NOT_INSTALLED
    if system == "windows":
        names -= NEED_UNIX
    result = subprocess.run(
        [*HIDES, system, "--import", *sorted(names)],
        env={**os.environ, **PATH},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert result.returncode == 0, result.stderr


@SYSTEMS
@pytest.mark.parametrize("transport", [*TRANSPORTS, "auto"])
def test_a_client_carries_connections(system, transport, server, origin, tmp_path):
    hidden = {"prefix": (*HIDES, system), "env": PATH}
    with start_client(tmp_path, transport, server.link, **hidden) as client:
        with connected(client.address, origin.echo) as sock:
            assert echoes(sock)
        assert client.stop() == 0 if system == "macos" else True
        assert "Traceback" not in client.stderr


@SYSTEMS
def test_commands_work_or_say_why_not(system, server, tmp_path):
    def run(*arguments):
        with Lane(tmp_path, *arguments, prefix=(*HIDES, system), env=PATH) as lane:
            return lane.ended(), lane.stderr

    assert run("--version") == (0, "")
    assert run("check", "--server", server.link)[0] == 0
    status, said = run("why")
    assert (status, said.count("\n")) == (69, 1)
    if system == "windows":
        assert "Python has no Unix sockets on this system" in said
        status, said = run("server", "--state-dir", tmp_path / "state")
        assert (status, said.splitlines()[-1]) == (
            78,
            "lane: a server needs Unix: it locks its folder, and checks who may read it",
        )
