"""Other people's plugins: a package from pip and a file in a folder carry traffic as lane's own do."""

import os
import re
import socket
import subprocess
import sys
import zipfile

import pytest

from tests.support.origin import CONTENT, MB
from tests.support.processes import Lane, curl, running_pair, start_client, start_server

PLUGIN = """
import sys
from lane import hookimpl
from lane.testing.tcp import TCPTransport

def say(line):
    sys.stderr.write(line + "\\n")  # one write: the log has a thread of its own, which must not come between

class Pigeon(TCPTransport):
    name = "pigeon"

@hookimpl
def lane_register_transports(register):
    register(Pigeon())

@hookimpl
def lane_authenticate(token, binding):
    return "guest" if binding == bytes(32) else None  # it has no certificates, and no secrets

@hookimpl
def lane_authorize(request, identity):
    return False if identity == "guest" and request.port == 7 else None

@hookimpl
def lane_session_started(session, target, identity):
    say(f"{identity} started {session} to {target}")

@hookimpl
def lane_session_ended(session, sent, received, error):
    say(f"{session} ended: {sent} {received} {error}")
"""
PRICED = """
from lane import hookimpl
from lane.testing.tcp import TCPTransport

class Ostrich(TCPTransport):
    name = "ostrich"
    cost = 3

@hookimpl
def lane_register_transports(register):
    register(Ostrich())
"""
NEIGHBOUR = """
from lane import hookimpl
from lane.testing.tcp import TCPTransport

class Neighbour(TCPTransport):
    name = "neighbour"
    cost = 2
    port = 0

    def __init__(self):
        super().__init__()
        self.connect = self._connector.connect  # it runs over TCP, and says so

    def dial(self, endpoint, tls):
        return super().dial(endpoint._replace(port=self.port or endpoint.port), tls)

    def listen(self, endpoint, tls):
        return super().listen(endpoint._replace(port=self.port or endpoint.port), tls)

neighbour = Neighbour()

@hookimpl
def lane_register_transports(register):
    register(neighbour)

@hookimpl
def lane_add_options(group):
    group.add_argument("--neighbour-port", default="0")
    group.add_argument("--neighbour-secret", default="")

@hookimpl
def lane_configure(options):
    neighbour.port = int(options.neighbour_port)

@hookimpl
def lane_register_link_parameters(register):
    register("neighbour-port")

@hookimpl
def lane_authenticate(token, binding):
    return "guest" if binding == bytes(32) else None
"""
BROKEN = "raise RuntimeError('out of seed')"


def install(tmp_path, name, code):
    """A distribution with one module, installed by pip: the environment in which lane finds it."""
    wheel = tmp_path / f"{name}-1.5-py3-none-any.whl"
    files = {
        f"{name}.py": code,
        f"{name}-1.5.dist-info/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n",
        f"{name}-1.5.dist-info/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{name}-1.5.dist-info/entry_points.txt": f"[lane.plugins]\n{name} = {name}\n",
    }
    files[f"{name}-1.5.dist-info/RECORD"] = "".join(f"{file},,\n" for file in files)
    # Packed by hand: a build backend would have to be there, or come from the network.
    with zipfile.ZipFile(wheel, "w") as archive:
        for file, text in files.items():
            archive.writestr(file, text)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--target"]
    subprocess.run([*command, tmp_path / "site", wheel], check=True, timeout=60, capture_output=True)
    paths = [str(tmp_path / "site"), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {"PYTHONPATH": os.pathsep.join(paths)}


def in_folder(tmp_path, **plugins):
    """Options for a plugin folder."""
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755, exist_ok=True)
    for name, code in plugins.items():
        (folder / f"{name}.py").write_text(code)
        (folder / f"{name}.py").chmod(0o644)
    return ["--plugin-dir", folder]


def carries_traffic(tmp_path, origin, options=()):
    """(server, client) after a session of both ways, over the plugin's transport."""
    with running_pair(tmp_path, "pigeon", ["--transport", "pigeon", *options], options) as (server, client):
        for kind in ("socks5", "http"):
            assert curl(client.address, kind, f"http://localhost:{origin.web}/5/{MB}") == CONTENT[5 : 5 + MB]
        with pytest.raises(AssertionError, match=r"\(2\)"):
            curl(client.address, "socks5", "http://localhost:7/")
        assert client.stop() == 0
        assert server.stop() == 0
    assert "guest started 1 to localhost:" in server.stderr
    assert re.search(r"^1 ended: \d+ \d+ None$", server.stderr, re.MULTILINE), server.stderr
    return server, client


def test_a_package_that_pip_installed(tmp_path, origin, run_lane, monkeypatch):
    for name, value in install(tmp_path, "coop", PLUGIN).items():
        monkeypatch.setenv(name, value)
    carries_traffic(tmp_path, origin)
    rows = [row.split() for row in run_lane("plugins").stdout.splitlines()]
    assert ["coop", "1.5", "coop", "pigeon"] in [row[:4] for row in rows]


def test_a_file_in_the_plugin_folder(tmp_path, origin):
    carries_traffic(tmp_path, origin, in_folder(tmp_path, coop=PLUGIN))


def test_broken_plugins_are_named_and_the_rest_goes_on(tmp_path, origin, run_lane, monkeypatch):
    for name, value in install(tmp_path, "barren", BROKEN).items():
        monkeypatch.setenv(name, value)
    options = in_folder(tmp_path, aviary=BROKEN, coop=PLUGIN)
    lines = [
        "plugin barren (barren): RuntimeError: out of seed",
        f"plugin aviary ({options[1] / 'aviary.py'}): RuntimeError: out of seed",
    ]
    for lane in carries_traffic(tmp_path, origin, options):
        assert [line.removeprefix("lane: ") for line in lane.stderr.splitlines() if "seed" in line] == lines
        assert "Traceback" not in lane.stderr
    listed = run_lane("plugins", *options).stdout
    assert listed.partition("Errors:\n")[2].split("\n  ") == ["  " + lines[0], lines[1] + "\n"]


def test_without_the_plugin_there_is_no_such_transport(run_lane):
    result = run_lane("client", "--transport", "pigeon")
    assert result.returncode == 2
    assert result.stderr == "lane: unknown transport 'pigeon' (there are: quic, tls)\n"


def test_who_tries_a_plugin_and_does_not_offer_it_says_so(tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    (folder / "ostrich.py").write_text(PRICED)
    with start_server(tmp_path / "server", "--plugin-dir", folder) as server:
        assert "INFO lane.server: ostrich is not offered, though clients try it" in server.stderr
        with start_client(tmp_path / "client", "auto", server.link, "--plugin-dir", folder) as client:
            assert "INFO lane.client: auto tries ostrich as well: a server offers it only if" in client.stderr
        with start_client(tmp_path / "named", "quic,tls", server.link, "--plugin-dir", folder) as client:
            assert "ostrich" not in client.stderr
    with start_server(tmp_path / "told", "--plugin-dir", folder, "--transport", "quic,ostrich") as server:
        assert "offered" not in server.stderr


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


def test_two_transports_over_tcp_are_told_apart(tmp_path, origin, run_lane):
    options, port = in_folder(tmp_path, neighbour=NEIGHBOUR), free_port()
    own = ["--neighbour-port", port, "--neighbour-secret", "of the server"]
    both = ["--transport", "neighbour,tls", "--state-dir", tmp_path / "server" / "state"]
    refused = run_lane("server", *both, "--listen", f"127.0.0.1:{port}", *options)
    assert refused.returncode == 78
    assert f":{port}: Address already in use: tls and neighbour both use TCP" in refused.stderr
    refused = run_lane("server", *both, "--listen", "127.0.0.1:0", "--neighbour-port=99999", *options)
    assert refused.returncode == 78
    assert re.fullmatch(r"lane: neighbour cannot listen on .*: OverflowError: .*\n", refused.stderr)
    with start_server(tmp_path / "server", *both, *own, *options) as server:
        link = server.link
        assert link.endswith(f"&neighbour-port={port}")
        assert server.address[1] != port
        printed = run_lane("link", *both[2:], "--host", "h:1", *own, *options).stdout
        assert printed.endswith(f"&neighbour-port={port}\n")
        for name in "neighbour", "tls", "auto":
            with start_client(tmp_path / name, name, link, *options) as client:
                assert curl(client.address, "socks5", f"http://localhost:{origin.web}/5/9") == CONTENT[5:14]
        # Who sets the option means it, and who has no such plugin uses what there is.
        mine = ["--neighbour-port=1", *options]
        checks = run_lane("check", "--transport", "neighbour", "--server", link, *mine)
        assert re.match("neighbour unreachable: .*127.0.0.1:1:", checks.stdout), checks
        # What is wrong with the link's value is told with the link, and what fails inside costs that lane.
        checks = run_lane("check", "--server", link.replace(f"={port}", "=abc"), *options)
        assert checks.returncode == 2
        assert "'abc' (the server's link sets --neighbour-port)" in checks.stderr
        checks = run_lane("check", "--server", link.replace(f"={port}", "=99999"), *options)
        assert re.search("(?m)^neighbour unreachable: .*OverflowError", checks.stdout)
        assert re.search("(?m)^tls      works", checks.stdout)
        checks = run_lane("check", "--transport", "tls", "--server", link)
        assert checks.stdout.startswith("tls      works")
        assert checks.stderr == "lane: the link's neighbour-port is of a plugin that is not here: ignored\n"
        assert "refused" not in re.sub("(?m)^.* DEBUG .*$", "", server.stderr)


def test_a_transport_without_a_port_of_its_own_is_left_out_where_nobody_asked_for_it(tmp_path, origin):
    options = in_folder(tmp_path, neighbour=NEIGHBOUR)
    with Lane(tmp_path / "client", "client", "--listen", "127.0.0.1:0", *options).ready() as client:
        assert re.search("WARNING lane.client: neighbour is left out: .*already in use", client.stderr)
        assert "over tls, quic)" in client.stdout
        assert curl(client.address, "socks5", f"http://localhost:{origin.web}/5/9") == CONTENT[5:14]
