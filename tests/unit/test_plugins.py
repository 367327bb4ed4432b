import sys
from pathlib import Path

import pytest

from lane import hookimpl
from lane.errors import ConfigError, Unreachable, UsageError
from lane.plugins import Plugins, load


class Fake:
    def __init__(self, name):
        self.name = name

    def dial(self, endpoint, tls):
        raise NotImplementedError

    def listen(self, endpoint, tls):
        raise NotImplementedError


def plugin_of(*transports):
    class Plugin:
        @hookimpl
        def lane_register_transports(self, register):
            for transport in transports:
                register(transport)

    return Plugin()


GOOD = """
from lane import hookimpl
__version__ = "3.1"
class T:
    name = "{name}"
    def dial(self, endpoint, tls): ...
    def listen(self, endpoint, tls): ...
@hookimpl
def lane_register_transports(register):
    register(T())
"""


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "plugins"
    path.mkdir(mode=0o755)
    return path


def test_a_transport_is_registered_through_the_hook():
    plugins, fake = Plugins(), Fake("fake")
    plugins.register(plugin_of(fake), "mine", "1.0", "a dist")
    assert plugins.errors == []
    assert plugins.transport("fake") is fake
    (info,) = plugins.loaded
    assert (info.name, info.version, info.where) == ("mine", "1.0", "a dist")
    assert info.hooks == ["lane_register_transports"]
    assert info.transports == ["fake"]


def test_an_unknown_transport_is_a_usage_error_that_lists_those_there_are():
    plugins = Plugins()
    with pytest.raises(UsageError, match=r"unknown transport 'x' \(there are: none\)$"):
        plugins.transport("x")
    plugins.register(plugin_of(Fake("tls"), Fake("quic")), "both")
    with pytest.raises(UsageError, match=r"unknown transport 'x' \(there are: quic, tls\)$"):
        plugins.transport("x")
    plugins.register(plugin_of(Fake("quic")), "other")
    with pytest.raises(UsageError, match="some plugins did not load"):
        plugins.transport("x")


def test_a_transport_name_taken_twice_is_an_error_of_the_second_plugin():
    plugins, first, third = Plugins(), Fake("t"), Fake("u")
    plugins.register(plugin_of(first), "one")
    plugins.register(plugin_of(Fake("t"), third), "two", where="dist two")
    assert plugins.transports == {"t": first, "u": third}
    (error,) = plugins.errors
    assert str(error) == "plugin two (dist two): the transport name t is taken"


@pytest.mark.parametrize(
    ("transport", "message"),
    [
        (Fake(""), "a transport's name has"),
        (Fake("UPPER"), "a transport's name has"),
        (Fake(7), "a transport's name has"),
        (object(), "a transport's name has"),
        (type("Half", (), {"name": "half", "dial": print})(), "the transport half lacks listen"),
        (type("None", (), {"name": "none"})(), "the transport none lacks dial and listen"),
    ],
)
def test_what_is_no_transport_is_refused(transport, message):
    plugins = Plugins()
    plugins.register(plugin_of(transport), "odd")
    assert plugins.transports == {}
    (error,) = plugins.errors
    assert error.name == "odd"
    assert error.message.startswith(message)


def test_hooks_that_do_not_exist_and_wrong_arguments_are_errors():
    class Unknown:
        @hookimpl
        def lane_no_such_hook(self):
            raise AssertionError

    class Wrong:
        @hookimpl
        def lane_register_transports(self, wrong):
            raise AssertionError

    plugins = Plugins()
    plugins.register(Unknown(), "unknown")
    plugins.register(Wrong(), "wrong")
    plugins.register(plugin_of(Fake("t")), "good")
    assert [info.name for info in plugins.loaded] == ["good"]
    assert [error.name for error in plugins.errors] == ["unknown", "wrong"]
    assert "there is no hook lane_no_such_hook" in plugins.errors[0].message
    assert "\n" not in str(plugins.errors[1])
    assert list(plugins.transports) == ["t"]


def test_a_hook_of_another_version_of_lane_may_be_optional():
    class Ahead:
        @hookimpl(optionalhook=True)
        def lane_no_such_hook(self):
            raise AssertionError

    plugins = Plugins()
    plugins.register(Ahead(), "ahead")
    assert [info.name for info in plugins.loaded] == ["ahead"]
    assert not plugins.errors


def test_a_name_taken_twice_is_an_error_and_the_first_plugin_stays():
    plugins = Plugins()
    plugins.register(plugin_of(Fake("a")), "same", where="here")
    plugins.register(plugin_of(Fake("b")), "same", where="there")
    assert list(plugins.transports) == ["a"]
    assert str(plugins.errors[0]) == "plugin same (there): the name is taken by the plugin from here"


def test_call_each_isolates_what_raises_but_lets_fatal_errors_pass():
    calls = []

    class Raises:
        @hookimpl
        def lane_add_options(self, group):
            raise RuntimeError("two\nlines")

    class Works:
        @hookimpl
        def lane_add_options(self, group):
            calls.append(group)

    class Stops:
        @hookimpl
        def lane_add_options(self, group):
            raise ConfigError("my key is bad")

    plugins = Plugins()
    plugins.register(Raises(), "raises")
    plugins.register(Works(), "works")
    plugins.call_each("lane_add_options", group="g")
    assert calls == ["g"]
    assert str(plugins.errors[0]) == "plugin raises (built in): lane_add_options: RuntimeError: two lines"
    plugins.register(Stops(), "stops")
    with pytest.raises(ConfigError, match="my key is bad"):
        plugins.call_each("lane_add_options", group="g")


class Configured:
    def __init__(self, error=None):
        self.error, self.options = error, None

    @hookimpl
    def lane_configure(self, options):
        self.options = options
        if self.error:
            raise self.error


def test_all_plugins_are_configured():
    plugins, both = Plugins(), [Configured(), Configured()]
    for number, one in enumerate(both):
        plugins.register(one, f"p{number}")
    plugins.configure("o")
    assert [one.options for one in both] == ["o", "o"]


@pytest.mark.parametrize(
    ("error", "raised", "line"),
    [
        (ValueError("not\na port"), UsageError, "plugin odd: not a port"),
        (ValueError(), UsageError, "plugin odd: a bad option"),
        (UnicodeDecodeError("utf-8", b"x", 0, 1, "bad"), UsageError, "plugin odd: 'utf-8' codec can't .*"),
        (UsageError("--odd-port: not a port"), UsageError, "--odd-port: not a port"),
        (ConfigError("odd.pem: no such file"), ConfigError, "odd.pem: no such file"),
        (Unreachable("odd"), Unreachable, "odd"),
        (
            AttributeError("no\nport"),
            ConfigError,
            r"plugin odd \(a dist\): lane_configure: AttributeError: no port",
        ),
        (SystemExit(3), ConfigError, r"plugin odd \(a dist\): lane_configure: SystemExit: 3"),
    ],
)
def test_a_plugin_that_can_not_be_configured_ends_the_program(error, raised, line):
    plugins = Plugins()
    plugins.register(Configured(error), "odd", where="a dist")
    with pytest.raises(raised, match=f"^{line}$"):
        plugins.configure("o")


def test_a_hook_that_registers_transports_and_then_raises_keeps_those():
    class Plugin:
        @hookimpl
        def lane_register_transports(self, register):
            register(Fake("early"))
            raise SystemExit

    plugins = Plugins()
    plugins.register(Plugin(), "p")
    assert list(plugins.transports) == ["early"]
    assert plugins.errors[0].message == "lane_register_transports: SystemExit"


def test_first_result_hooks_are_called_in_all_plugins():
    class Authority:
        @hookimpl
        def lane_authenticate(self, token, binding, peer):
            return "me" if token == b"t" else None

    plugins = Plugins()
    plugins.register(Authority(), "authority")
    assert plugins.hook.lane_authenticate(token=b"t", binding=b"", peer="") == "me"
    assert plugins.hook.lane_authenticate(token=b"u", binding=b"", peer="") is None


def test_files_and_packages_of_a_folder_are_loaded_in_order(folder):
    (folder / "b-file.py").write_text(GOOD.format(name="from-file"))
    package = folder / "a_package"
    package.mkdir()
    (package / "__init__.py").write_text("from .inner import *\nfrom .inner import __version__")
    (package / "inner.py").write_text(GOOD.format(name="from-package"))
    (folder / "_private.py").write_text("raise SystemExit")
    (folder / ".hidden.py").write_text("raise SystemExit")
    (folder / "notes.txt").write_text("raise SystemExit")
    (folder / "no_package").mkdir()
    plugins = load(folder)
    mine = [info for info in plugins.loaded if info.where.startswith(str(folder))]
    assert [(info.name, info.version, info.transports) for info in mine] == [
        ("a_package", "3.1", ["from-package"]),
        ("b-file", "3.1", ["from-file"]),
    ]
    assert not list(folder.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("raise ValueError('boom')", "ValueError: boom"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("syntax error", "SyntaxError: "),
        ("import no_such_module_at_all", "ModuleNotFoundError: "),
    ],
)
def test_a_file_that_raises_is_reported_by_name_and_the_rest_goes_on(folder, source, message):
    (folder / "broken.py").write_text(source)
    (folder / "good.py").write_text(GOOD.format(name="good"))
    plugins = load(folder)
    (error,) = [error for error in plugins.errors if error.name == "broken"]
    assert error.where == str(folder / "broken.py")
    assert error.message.startswith(message)
    assert "good" in plugins.transports
    assert "lane_plugin_dir_broken" not in sys.modules


def test_a_folder_that_is_missing_or_that_others_may_write_to_is_a_configuration_error(folder):
    with pytest.raises(ConfigError, match="No such file"):
        load(folder / "missing")
    (folder / "file").touch(mode=0o644)
    with pytest.raises(ConfigError, match="Not a directory"):
        load(folder / "file")
    folder.chmod(0o775)
    with pytest.raises(ConfigError, match="others may write to it"):
        load(folder)


@pytest.mark.parametrize("mode", [0o664, 0o646])
def test_a_file_that_others_may_write_to_is_refused(folder, mode):
    file = folder / "open.py"
    file.write_text(GOOD.format(name="open"))
    file.chmod(mode)
    plugins = load(folder)
    assert "open" not in plugins.transports
    assert any(e.name == "open" and "others may write" in e.message for e in plugins.errors)


def test_a_package_is_refused_for_any_file_in_it(folder):
    package = folder / "package"
    package.mkdir()
    (package / "__init__.py").write_text(GOOD.format(name="package"))
    (package / "data").touch()
    (package / "data").chmod(0o666)
    plugins = load(folder)
    assert "package" not in plugins.transports
    assert any(e.name == "package" and str(package / "data") in e.message for e in plugins.errors)


def install(folder: Path, name: str, source: str) -> None:
    """What pip leaves behind for a distribution with one module and one entry point."""
    (folder / f"{name}_module.py").write_text(source)
    info = folder / f"{name}-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(f"[lane.plugins]\nep_{name} = {name}_module\n")


def test_entry_points_are_loaded_and_broken_ones_reported(tmp_path, monkeypatch):
    install(tmp_path, "lane_test_good", GOOD.format(name="installed"))
    install(tmp_path, "lane_test_broken", "1 / 0")
    monkeypatch.syspath_prepend(tmp_path)
    plugins = load()
    (info,) = [info for info in plugins.loaded if info.name == "ep_lane_test_good"]
    assert (info.version, info.where, info.transports) == ("2.5", "lane_test_good", ["installed"])
    (error,) = [error for error in plugins.errors if error.name == "ep_lane_test_broken"]
    assert str(error) == "plugin ep_lane_test_broken (lane_test_broken): ZeroDivisionError: division by zero"
