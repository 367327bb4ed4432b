"""The package for Debian, installed, upgraded, removed and purged in a clean system."""

import os
import re
import shlex
import shutil
import subprocess
import sys

import pytest

import lane
from lane.cli import main
from tests.support.processes import lasting_port
from tests.support.system_commands import run

NEWER = "99.0.0"


@pytest.fixture(scope="module")
def packages(sources, tmp_path_factory):
    """The package of this version, and the same with a higher number."""
    found, copy = [], tmp_path_factory.mktemp("deb") / "sources"
    shutil.copytree(sources, copy)
    for version in (lane.__version__, NEWER):
        file = copy / "lane/__init__.py"
        file.write_text(re.sub(r'__version__ = ".*"', f'__version__ = "{version}"', file.read_text()))
        run("package/deb/build", sys.executable, cwd=copy)
        (package,) = (copy / "dist").glob(f"lane_{version}_*.deb")
        found.append(package)
    return found


@pytest.fixture(scope="module")
def system(debian, packages):
    for package in packages:
        run("cp", package, debian)
    run("chroot", debian, "apt-get", "update")
    return System(debian)


class System:
    def __init__(self, root):
        self.root = root

    def __call__(self, *command, check=True):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive"}
        return run("chroot", self.root, *command, check=check, env=environment).stdout

    def install(self, package):
        return self("apt-get", "install", "-y", "--no-install-recommends", f"./{package.name}")

    def left(self):
        """The files of lane."""
        return self("sh", "-c", "find / -xdev -path /proc -prune -o -path '*lane*' -print").split()


def test_its_life(system, packages):
    older, newer = packages
    clean = set(system.left())
    system.install(older)

    assert system("lane", "--version").startswith(f"lane {lane.__version__} (")
    assert "quic" in system("lane", "plugins")
    assert "_shtab_lane" in system("lane", "--print-completion", "bash")
    for name in ("man/man1/lane.1", "bash-completion/completions/lane", "doc/lane/copyright"):
        system("test", "-s", f"/usr/share/{name}")
    assert "ExecStart=/usr/bin/lane server\n" in system("cat", "/usr/lib/systemd/system/lane-server.service")
    assert it_serves(system)
    # Nothing wrote beside the packaged files, and all are as packaged.
    assert system("dpkg", "-V", "lane") == ""

    conf = system.root / "etc/lane/server.conf"
    conf.write_text(conf.read_text() + "host = proxy.example.com\n")
    system.install(newer)
    assert system("lane", "--version").startswith(f"lane {NEWER} (")
    assert conf.read_text().endswith("host = proxy.example.com\n")
    assert system("sh", "-c", "ls -d /usr/lib/lane/lib/python3*/site-packages/lane-*").count("dist-info") == 1

    (system.root / "var/lib/lane").mkdir()
    (system.root / "var/lib/lane/accounts.db").touch()
    system("apt-get", "remove", "-y", "lane")
    assert system("lane", "--version", check=False) == ""
    kept = {path for path in system.left() if not path.endswith(".deb")} - clean
    assert kept >= {"/etc/lane/server.conf", "/var/lib/lane/accounts.db"}
    assert not [path for path in kept if path.startswith("/usr")]

    system("apt-get", "purge", "-y", "lane")
    assert set(system.left()) == clean


def it_serves(system):
    """Whether a server there answers a client here, over each transport."""
    port = lasting_port()
    command = ["chroot", system.root, "/usr/bin/lane", "server", "--state-dir", "/tmp/state"]
    where = ["--listen", f"127.0.0.1:{port}", "--log-file", "/tmp/log"]
    with subprocess.Popen([*command, *where], stdout=subprocess.PIPE, text=True) as server:
        try:
            said = [server.stdout.readline() for _ in range(2)]
            assert said[0].startswith("listening on"), (said, server.poll())
            link = system(*shlex.split(said[1].removeprefix("for clients: "))).strip()
            assert os.path.exists(system.root / "usr/bin/lane")
            return main(["check", "--server", link]) == 0
        finally:
            server.terminate()
