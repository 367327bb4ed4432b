"""docs/PLUGINS.md stays true: its transport is built, tested and used, its hooks are loaded and called."""

import argparse
import hashlib
import os
import re
import runpy
import socket
import subprocess
import sys
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
from lane_quic import plugin as lane_quic_plugin

from lane import hookimpl, hookspecs
from lane.address import Address
from lane.carriers.path_signals import Figures
from lane.errors import UsageError
from lane.plugins import Plugins, load
from lane.proto.hello import token
from tests.support.quic_pipe import Pipe

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "PLUGINS.md").read_text()
TUTORIAL, HOOKS = DOCUMENT.split("\n## Hooks\n")


def environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, [ROOT, ROOT / "plugins"]))}


def files():
    found = re.findall(r"^`([\w.]+)`:\n\n```\w+\n(.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL)
    return dict(found)


def write(folder, *names):
    folder.mkdir(mode=0o755)
    for name in names:
        path = folder / name
        path.write_text(files()[name])
        path.chmod(0o644)
    return folder


@pytest.fixture
def hooks():
    """The examples of the hooks, as one module."""
    module = type(sys)("example")
    blocks = re.findall(r"^```python\n(.*?)^```$", HOOKS, re.MULTILINE | re.DOTALL)
    exec(compile("".join(blocks), "PLUGINS.md", "exec"), module.__dict__)
    return module


def test_the_tutorial_has_its_files():
    assert list(files()) == ["lane_plain.py", "test_plain.py", "pyproject.toml"]


def test_its_transport_passes_the_contract(tmp_path):
    folder = write(tmp_path / "plain", "lane_plain.py", "test_plain.py")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", "test_plain.py"],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert int(re.search(r"(\d+) passed", run.stdout)[1]) > 40


def test_the_entry_point_of_its_package_is_the_module():
    assert '[project.entry-points."lane.plugins"]\nplain = "lane_plain"\n' in files()["pyproject.toml"]
    assert 'py-modules = ["lane_plain"]' in files()["pyproject.toml"]


def test_its_file_is_loaded_from_a_folder(tmp_path):
    plugins = load(write(tmp_path / "plugins", "lane_plain.py"))
    assert plugins.transport("plain").name == "plain"
    assert not [error for error in plugins.errors if error.name == "lane_plain"]


def test_its_tests_get_certificates(tmp_path):
    folder = write(tmp_path / "plain", "lane_plain.py")
    (snippet,) = re.findall(
        r"^```python\n(from lane.stream import Address\n.*?)^```$", TUTORIAL, re.MULTILINE | re.DOTALL
    )
    found = {"PlainTransport": runpy.run_path(folder / "lane_plain.py")["PlainTransport"]}
    exec(snippet, found)
    assert found["carrier"].binding == found["tls"].binding
    found["carrier"].close()
    found["listener"].close()


def measure(folder, name):
    """What `lane plugins --measure` says, in a hurry."""
    hurry = "from lane.cli import main, measure as m; m.ROUNDS, m.SECONDS, m.WARM = 1, 0.2, 0.1; "
    command = (
        f"import sys; {hurry} sys.exit(main(['plugins', '--plugin-dir', '{folder}', '--measure', '{name}']))"
    )
    return subprocess.run(
        [sys.executable, "-c", command],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_its_cost_is_measured(tmp_path):
    result = measure(write(tmp_path / "plugins", "lane_plain.py"), "plain")
    assert (result.returncode, result.stderr) == (0, "")
    figures = r"client \d+\.\d\d, server \d+\.\d\d CPU s/GB, \d+ Mbit/s\n"
    assert re.fullmatch(rf".* on loopback\ntls    {figures}plain  {figures}cost = [\d.]+\n", result.stdout)


def test_what_can_not_be_measured_says_why(tmp_path):
    folder = write(tmp_path / "plugins", "lane_plain.py")
    text = (folder / "lane_plain.py").read_text()
    (folder / "lane_plain.py").write_text(
        text.replace("return PlainListener(", 'raise ConfigError("no port for me")#')
    )
    result = measure(folder, "plain")
    assert result.returncode == 78
    assert result.stderr == "lane: no port for me\nlane: it could not be measured\n"


@contextmanager
def origin():
    """A target that reads to the end and answers with the SHA-256 of what it got."""

    def serve():
        sock, _ = server.accept()
        with sock:
            digest = hashlib.sha256()
            while data := sock.recv(65536):
                digest.update(data)
            sock.sendall(digest.digest())

    with socket.create_server(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=serve)
        thread.start()
        yield server.getsockname()[1]
        thread.join(60)


def test_it_carries_traffic(tmp_path):
    folder = write(tmp_path / "plugins", "lane_plain.py")
    client = subprocess.Popen(
        [sys.executable, "-m", "lane", "--transport=plain", "--listen=127.0.0.1:0", "--plugin-dir", folder],
        cwd=tmp_path,
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        line = next(line for line in client.stdout if line.startswith("listening on "))
        port = int(re.search(r"127\.0\.0\.1:(\d+)", line)[1])
        data = bytes(range(256)) * 8192
        with origin() as target, socket.create_connection(("127.0.0.1", port), 60) as sock:
            sock.sendall(b"\x05\x01\x00" + b"\x05\x01\x00" + Address("127.0.0.1", target).pack())
            reader = sock.makefile("rb")
            assert reader.read(4) == b"\x05\x00\x05\x00"
            reader.read(8)
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
            assert reader.read() == hashlib.sha256(data).digest()
            reader.close()
    finally:
        client.terminate()
        assert client.wait(30) == 0
        client.stdout.close()


def test_the_examples_are_one_plugin_with_every_hook(hooks):
    plugins = Plugins()
    plugins.register(hooks, "example")
    assert plugins.errors == []
    (info,) = plugins.loaded
    assert sorted(info.hooks) == sorted(name for name in vars(hookspecs) if name.startswith("lane_"))


def configured(hooks, *arguments):
    parser = argparse.ArgumentParser()
    hooks.lane_add_options(parser.add_argument_group("example"))
    hooks.lane_configure(parser.parse_args(arguments))


def test_the_example_of_users_and_targets(hooks):
    key, binding = b"k" * 32, b"b" * 32
    configured(hooks)
    assert hooks.lane_authenticate(token(b"", binding), binding) is None
    configured(hooks, "--example-key", key.hex(), "--example-domain", "example.com")
    assert hooks.lane_authenticate(token(key, binding), binding) == "example"
    assert hooks.lane_authenticate(token(key, key), binding) is None
    assert hooks.lane_authorize(Address("www.example.com", 80), "example") is True
    assert hooks.lane_authorize(Address("notexample.com", 80), "example") is False
    assert hooks.lane_authorize(Address("notexample.com", 80), "another") is None
    with pytest.raises(UsageError, match="expected 64 hex digits"):
        configured(hooks, "--example-key", "no hex")


def test_the_example_of_accounts(hooks, tmp_path):
    assert hooks.lane_accounts("file", tmp_path) is None
    staff, binding = tmp_path / "staff", b"b" * 32
    staff.write_text('{"anna": "' + "61" * 32 + '"}')
    accounts = hooks.lane_accounts(f"staff:{staff}", tmp_path)
    assert accounts.find(token(b"a" * 32, binding), binding, "192.0.2.1:1").sessions == 100
    staff.write_text("{}")
    accounts.refresh()
    assert accounts.find(token(b"a" * 32, binding), binding, "192.0.2.1:1") is None
    accounts.close()


def test_the_example_of_a_choice(hooks):
    lanes = [Figures("dear", 20, True), Figures("cheap", 1, True), Figures("dead", 0, False)]
    configured(hooks)
    assert hooks.lane_choose(1.0, lanes, "dear") is None
    configured(hooks, "--example-domain", "example.com")
    assert hooks.lane_choose(1.0, lanes, "dear") == ("cheap", "what works and costs least, come what may")
    assert hooks.lane_choose(1.0, lanes[2:], "dead") is None


def test_the_example_of_a_route(hooks):
    configured(hooks)
    assert hooks.lane_route(Address("example.com", 443)) is None
    configured(hooks, "--example-domain", "example.com")
    assert hooks.lane_route(Address("example.com", 443)) == "lane"
    assert hooks.lane_route(Address("example.org", 443)) == "block"


def test_the_example_of_a_congestion_controller(hooks):
    plugins = Plugins()
    plugins.register(hooks, "example")
    plugins.register(lane_quic_plugin, "quic")
    transport = plugins.transport("quic")

    def choose(name):
        options = argparse.Namespace(
            congestion=name,
            quic_fast_path="on",
            quic_offload="on",
            qlog_dir=None,
            example_key="",
            example_domain="",
        )
        plugins.configure(options)

    try:
        choose("example-fixed")
        assert transport.settings.control is hooks.FixedWindow
        pipe = Pipe(loss=0.02, control=transport.settings.control).connect()
        number = pipe.client.open(bytes(200_000), end=True)
        pipe.run(lambda: number in pipe.server.ends)
        with pytest.raises(UsageError, match="there are: bbr, cubic, example-fixed, reno"):
            choose("vegas")
    finally:
        choose("bbr")
    assert plugins.errors == []


def test_a_controller_whose_name_is_taken_is_an_error_of_its_plugin(hooks):
    plugins = Plugins()
    plugins.register(lane_quic_plugin, "quic")
    hooks.lane_register_congestion = hookimpl(lambda register: register("cubic", hooks.FixedWindow))
    plugins.register(hooks, "example")
    options = argparse.Namespace(
        congestion="cubic",
        quic_fast_path="on",
        quic_offload="on",
        qlog_dir=None,
        example_key="",
        example_domain="",
    )
    plugins.configure(options)
    (error,) = plugins.errors
    assert "the congestion controller cubic is taken" in str(error)
    assert error.name == "example"
    options.congestion = "bbr"
    plugins.configure(options)


def test_the_example_of_observers(hooks, caplog):
    caplog.set_level("INFO", "lane.example")
    hooks.lane_session_started("1", Address("::1", 80), "me")
    hooks.lane_session_ended("1", 2, 3, None)
    hooks.lane_session_ended("1", 2, 3, "lost")
    assert [record.getMessage() for record in caplog.records] == [
        "session 1: me to [::1]:80",
        "session 1: 2 up, 3 down, clean",
        "session 1: 2 up, 3 down, lost",
    ]
