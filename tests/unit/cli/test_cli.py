"""The command line from outside: exit statuses, lines on standard error, and where options come from."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lane import cli, state
from lane.address import Address
from lane.certs import ServerIdentity
from lane.cli import option_parser
from lane.config import client_config, server_config
from lane.egress.rules import read_rules
from lane.errors import ConfigError, UsageError
from lane.link import Link, encode, unwrapped
from lane.users.keys_file import read_keys

BROKEN = "raise RuntimeError('boom')"
OPTIONS = """
from lane import hookimpl
from lane.errors import ConfigError
@hookimpl
def lane_add_options(group):
    group.add_argument("--good-mood", metavar="MOOD", help="mood of the plugin")
@hookimpl
def lane_configure(options):
    if options.good_mood == "bad":
        raise ConfigError("good-mood: must not be bad")
    if options.good_mood == "broken":
        raise RuntimeError("broken mood")
    int(options.good_mood or 1)
"""


@pytest.fixture
def plugin_dir(tmp_path):
    folder = tmp_path / "plugins"
    folder.mkdir(mode=0o755)
    return folder


@pytest.fixture
def conf(tmp_path):
    def write(text):
        file = tmp_path / "lane.conf"
        file.write_text(text)
        return file

    return write


def parse(command, *argv):
    warnings = []
    namespace, plugins = option_parser.parse(command, [str(a) for a in argv], warnings.append)
    return namespace, plugins, warnings


def fails(result, status, line):
    """One line on standard error, and no other."""
    assert result.returncode == status, result.stderr
    assert re.fullmatch(line + r"\n", result.stderr), result.stderr
    assert result.stdout == ""


def test_an_unknown_option_is_2(run_lane):
    fails(run_lane("--foo", "x"), 2, r"lane: unknown option --foo \(lane client --help lists them\)")
    fails(run_lane("server", "--lis=x"), 2, r"lane: unknown option --lis.* \(lane server --help lists them\)")


def test_an_unknown_command_or_argument_is_2_and_shows_no_link(run_lane):
    fails(run_lane("frob"), 2, r"lane: unknown command 'frob' \(lane --help lists them\)")
    fails(run_lane("lane://KEY@h:1"), 2, r"lane: unknown command \(a link is given with --server; .*\)")
    fails(run_lane("client", "lane://KEY@h:1"), 2, "lane: a link is given with --server")
    fails(run_lane("client", "odd"), 2, r"lane: unexpected argument 'odd' \(lane client --help .*\)")
    fails(run_lane("client", "--listen"), 2, "lane: argument --listen: expected one argument")


LINK = f"lane://{'A' * 43}@192.0.2.1:4433?pin={'A' * 43}"


def test_a_secret_in_a_file_that_others_may_read_is_78(run_lane, conf):
    file, wrong = conf(f"server = {LINK}\n"), r"others may read it \(chmod 600 .*\)"
    file.chmod(0o644)
    fails(run_lane("-c", file), 78, f"lane: {file}: server: a secret, and {wrong}")
    file.write_text(LINK)
    fails(run_lane("--server", f"@{file}"), 78, f"lane: {file}: refused, since {wrong}")


def test_a_malformed_link_is_2_on_the_command_line_and_78_in_a_file(run_lane, conf):
    fails(run_lane("--server", "lane://x"), 2, "lane: --server: .*")
    file = conf("server = lane://x\n")
    fails(run_lane("-c", file), 78, f"lane: {file}: server: .*")
    file.chmod(0o600)
    fails(run_lane("--server", f"@{file}"), 78, f"lane: {file}: malformed .*")
    fails(run_lane(env={"LANE_SERVER": "lane://x"}), 2, "lane: LANE_SERVER: .*")


def test_an_unknown_key_in_a_file_is_78(run_lane, conf):
    file = conf("# fine\nserver = embedded\nfoo = 1\n")
    fails(run_lane("-c", file), 78, f"lane: {file}: unknown key 'foo'")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"listen", ":1: expected `key = value`"),
        (b"[section]\n", ":1: expected `key = value`"),
        (b"\n# c\n--listen = x", ":3: expected `key = value`"),
        (b"grace = 1s\ngrace = 2s", ":2: grace is set twice"),
        (b"help = true", ": unknown key 'help'"),
        (b"config = other.conf", ": unknown key 'config'"),
        (b"listen = \xff", ": not UTF-8 text"),
    ],
)
def test_a_file_that_is_malformed_is_a_configuration_error(tmp_path, content, message):
    file = tmp_path / "bad.conf"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as caught:
        parse("client", "-c", file)
    assert str(caught.value) == f"{file}{message}"


def test_a_missing_file_is_78(run_lane, tmp_path):
    fails(run_lane("-c", "missing.conf"), 78, r"lane: cannot read missing\.conf: No such file or directory")
    fails(run_lane("--config=."), 78, r"lane: cannot read \.: Is a directory")
    fails(run_lane("--plugin-dir", "missing"), 78, "lane: plugin folder missing: No such file or directory")


def test_help_and_version(run_lane, capsys):
    overview = run_lane("--help")
    assert overview.returncode == 0
    assert all(command in overview.stdout for command in option_parser.COMMANDS)
    for command in option_parser.COMMANDS:
        with pytest.raises(SystemExit) as caught:
            cli.main([*command.split(), "--help"])
        text = capsys.readouterr()
        assert (caught.value.code, text.err) == (0, "")
        assert re.match(rf"usage: lane {command} (NAME )?\[options\]\n", text.out)
    assert re.fullmatch(r"lane \d+\.\d+\.\d+ \((compiled|portable)\)\n", run_lane("--version").stdout)


def test_help_works_although_a_standard_file_is_broken(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "lane").mkdir()
    (tmp_path / "lane" / "client.conf").write_text("rubbish")
    with pytest.raises(SystemExit) as caught:
        cli.main(["client", "--help"])
    assert caught.value.code == 0
    assert "--listen" in capsys.readouterr().out
    assert cli.main(["client"]) == 78


def test_the_command_line_wins_over_variables_and_they_over_files(tmp_path, monkeypatch, conf):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "lane").mkdir()
    standard = tmp_path / "lane" / "client.conf"
    standard.write_text(
        "server = embedded\ngrace = 1s\nlisten = [::1]:1\nidle-timeout = 1m\nmax-sessions = 1\n"
    )
    given = conf("grace = 2s\nlisten = [::1]:2\nidle-timeout = 2m\n")
    monkeypatch.setenv("LANE_GRACE", "3s")
    monkeypatch.setenv("LANE_LISTEN", "[::1]:3")
    namespace, _, warnings = parse("client", "-c", given, "--grace", "4s")
    assert (namespace.grace, namespace.listen) == ("4s", "[::1]:3")
    assert (namespace.idle_timeout, namespace.max_sessions) == ("2m", "1")
    assert namespace.request_timeout == "30s"
    assert namespace.files == [standard, given]
    assert namespace.sources == {
        "listen": "LANE_LISTEN", "idle_timeout": given, "max_sessions": standard, "server": standard,
    }  # fmt: skip
    assert [line for line in warnings if "ignored" in line] == []


def test_a_path_with_wildcards_in_it_is_that_path(tmp_path, monkeypatch):
    odd = tmp_path / "[a]*"
    (odd / "lane").mkdir(parents=True)
    (odd / "lane" / "server.conf").write_text("grace = 1s\n")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(odd))
    assert parse("server")[0].grace == "1s"


def test_lists_come_from_one_source_each(conf):
    file = conf("allow = 10.0.0.0/8, example.com\ndeny = 10.1.0.0/16\n")
    namespace, _, _ = parse("server", "-c", file, "--deny", "1.1.1.1", "--deny", "2.2.2.2")
    assert namespace.allow == ["10.0.0.0/8, example.com"]
    assert namespace.deny == ["1.1.1.1", "2.2.2.2"]


def test_no_check_is_a_flag_or_a_value(conf):
    assert parse("client")[0].no_check == "no"
    assert parse("client", "--no-check")[0].no_check == "yes"
    assert parse("client", "-c", conf("server = embedded\nno-check = yes\n"))[0].no_check == "yes"


def test_unknown_variables_are_named(monkeypatch):
    monkeypatch.setenv("LANE_LISTNE", "x")
    monkeypatch.setenv("LANE_STATE_DIR", "of another command")
    monkeypatch.setenv("LANE_TEST_ANYTHING", "x")
    lines = [line for line in parse("client")[2] if line.startswith("LANE_")]
    assert lines == ["LANE_LISTNE is no option of lane, did you mean LANE_LISTEN?: ignored"]
    for number in range(50):
        monkeypatch.setenv(f"LANE_X{number}", "x")
    assert len([line for line in parse("client")[2] if line.startswith("LANE_")]) == 10


def test_a_plugin_adds_options_and_sees_their_values(run_lane, plugin_dir, conf):
    (plugin_dir / "good.py").write_text(OPTIONS)
    text = run_lane("client", "--plugin-dir", plugin_dir, "--help").stdout
    assert "options of plugins:" in text
    assert "--good-mood MOOD" in text
    file = conf(f"server = embedded\nplugin-dir = {plugin_dir}\ngood-mood = bad\n")
    fails(run_lane("-c", file), 78, "lane: good-mood: must not be bad")
    variables = {"LANE_PLUGIN_DIR": str(plugin_dir), "LANE_GOOD_MOOD": "bad"}
    fails(run_lane("server", env=variables), 78, "lane: good-mood: must not be bad")


@pytest.mark.parametrize("command", ["client", "server", "check"])
def test_a_plugin_that_refuses_its_option_ends_lane_with_a_line(run_lane, plugin_dir, command):
    (plugin_dir / "good.py").write_text(OPTIONS)
    link = ("--server", "example.com:1", "--key=" + "A" * 43) if command == "check" else ()

    def run(mood):
        return run_lane(command, *link, "--plugin-dir", plugin_dir, "--good-mood", mood)

    fails(run("3x"), 2, "lane: plugin good: invalid literal for int.. with base 10: '3x'")
    file = re.escape(f"{plugin_dir}/good.py")
    fails(run("broken"), 78, rf"lane: plugin good \({file}\): lane_configure: RuntimeError: broken mood")


@pytest.mark.parametrize(
    ("declared", "arguments", "line"),
    [
        ("type=int", ["--odd-x", "y"], "argument --odd-x: invalid int value: 'y'"),
        ("type={'a': 1}.__getitem__", ["--odd-x", "y"], "an option of a plugin: KeyError: 'y'"),
        ("type=open", ["--odd-x", "/no/such"], "an option of a plugin: FileNotFoundError: .*"),
        ("help='100 % of it'", ["--help"], "an option of a plugin: TypeError: .*"),
    ],
)
def test_a_plugins_option_that_raises_is_a_line(run_lane, plugin_dir, declared, arguments, line):
    (plugin_dir / "odd.py").write_text(
        "from lane import hookimpl\n"
        f"@hookimpl\ndef lane_add_options(group):\n    group.add_argument('--odd-x', {declared})\n"
    )
    fails(run_lane("server", "--plugin-dir", plugin_dir, *arguments), 2, f"lane: {line}")


def test_a_broken_plugin_is_reported_and_its_keys_are_no_error(plugin_dir, conf):
    (plugin_dir / "good.py").write_text(BROKEN)
    file = conf(f"server = embedded\nplugin-dir = {plugin_dir}\ngood-mood = fine\n")
    warnings = parse("client", "-c", file)[2]
    assert f"plugin good ({plugin_dir}/good.py): RuntimeError: boom" in warnings
    assert f"{file}: good-mood is of a plugin that did not load: ignored" in warnings
    file.write_text(file.read_text() + "goods = 1\n")
    with pytest.raises(ConfigError, match="unknown key 'goods'"):
        parse("client", "-c", file)
    with pytest.raises(UsageError, match="unknown option --good-mood"):
        parse("client", "--plugin-dir", plugin_dir, "--good-mood", "x")


def test_check_reads_the_clients_file_and_tries_all_transports(conf):
    file = conf("server = example.com:1\ntransport = tls\nbuffer-size = 8KB\nanything = 1\n")
    namespace, _, _ = parse("check", "-c", file)
    assert (namespace.server, namespace.transport, namespace.buffer_size) == ("example.com:1", "auto", "16MB")
    assert parse("check", "-c", file, "--transport", "tls")[0].transport == "tls"


def test_check_needs_a_server(run_lane):
    fails(run_lane("check"), 2, "lane: no server to check: pass --server")


def test_plugins_lists_what_loaded_and_what_did_not(run_lane, plugin_dir):
    (plugin_dir / "broken.py").write_text(BROKEN)
    (plugin_dir / "good.py").write_text("__version__ = '7.7'" + OPTIONS)
    result = run_lane("plugins", "--plugin-dir", plugin_dir)
    assert (result.returncode, result.stderr) == (0, "")
    table, errors = result.stdout.split("\nErrors:\n")
    assert table.split("\n", 1)[0].split() == ["NAME", "VERSION", "FROM", "TRANSPORTS", "HOOKS"]
    (row,) = [line.split(maxsplit=4) for line in table.splitlines() if line.startswith("good ")]
    assert row == ["good", "7.7", str(plugin_dir / "good.py"), "-", "lane_add_options, lane_configure"]
    assert f"  plugin broken ({plugin_dir}/broken.py): RuntimeError: boom\n" in errors


def test_link_prints_the_link_alone(run_lane, tmp_path):
    folder = tmp_path / "state"
    kept = state.keep(folder)
    result = run_lane("link", "--state-dir", folder, "--host", "proxy.example:99")
    assert (result.returncode, result.stderr) == (0, "")
    link = Link.parse(result.stdout)
    assert (link.key, str(link.address), link.pin) == (
        kept.first.key,
        "proxy.example:99",
        kept.identity.binding,
    )


def test_link_of_a_server_with_a_certificate_of_its_own(tmp_path, capsys):
    folder, other = tmp_path / "state", ServerIdentity.make()
    state.keep(folder, other)
    (tmp_path / "cert").write_bytes(other.chain_pem)
    (tmp_path / "key").write_bytes(other.key_pem)
    (tmp_path / "key").chmod(0o600)
    argv = ["link", "--state-dir", str(folder), "--host", "h", "--cert", str(tmp_path / "cert")]
    assert cli.main([*argv, "--cert-key", str(tmp_path / "key")]) == 0
    link = Link.parse(capsys.readouterr().out)
    assert (str(link.address), link.pin) == ("h:4433", other.binding)


def test_link_makes_no_accounts(run_lane, tmp_path):
    state = tmp_path / "state"
    result = run_lane("link", "--state-dir", state, "--host", "proxy.example:99")
    fails(result, 78, f"lane: no accounts.db in {state}: lane server makes it at its first start")
    assert not state.exists()
    fails(run_lane("link", "--state-dir", state), 2, "lane: pass --host HOST:PORT, where .*")


def test_a_reader_that_is_gone_is_quiet(tmp_path):
    reader, pipe = os.pipe()
    os.close(reader)
    try:
        argv = [sys.executable, "-m", "lane", "--help"]
        result = subprocess.run(argv, stdout=pipe, stderr=subprocess.PIPE, timeout=60, check=False)
    finally:
        os.close(pipe)
    assert (result.returncode, result.stderr) == (1, b"")


def test_an_interrupt_is_130(monkeypatch):
    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setattr(cli, "_run", interrupted)
    assert cli.main([]) == 130


@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_files_as_other_editors_save_them(conf, tmp_path, mark, end):
    """With a byte order mark, other line ends, and quotes: taken as they are meant."""

    def write(name, *lines):
        path = tmp_path / name
        path.write_bytes((mark + "".join(line + end for line in lines)).encode())
        path.chmod(0o600)
        return path

    link, auth = write("link", f'"{LINK[:60]}', f'{LINK[60:]}"'), write("auth", "me:secret")
    rules, keys = write("rules", "# mine", "direct a.example"), write("keys", "# mine", f"bob '{'A' * 43}'")
    key = write("key", f"'{'A' * 43}'")
    made = write(
        "conf", f"server = @{link}", f"auth = '@{auth}'", f'rules = "{rules}"', "rule = block b.example"
    )
    config = client_config(parse("client", "-c", made)[0])
    assert config.server == Link.parse(LINK)
    assert config.credentials == (b"me", b"secret")
    assert [rule.text for rule in read_rules(config.rules_file)] == ["direct a.example"]
    assert [(one.name, one.key) for one in read_keys(keys)] == [("bob", bytes(32))]
    config = client_config(parse("client", "--server", "127.0.0.1:1", "--key", f"@{key}")[0])
    assert config.key == bytes(32)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32", "latin-1"])
def test_files_of_other_encodings(tmp_path, encoding):
    path = tmp_path / "file"
    path.write_bytes("# Schlüssel".encode(encoding))
    path.chmod(0o600)
    for argv in (["-c", path], ["--server", f"@{path}"], ["--auth", f"@{path}"], ["--rules", path]):
        with pytest.raises(ConfigError, match=f"^{path}: .*UTF-8"):
            config = client_config(parse("client", *argv)[0])
            list(read_rules(config.rules_file))
    with pytest.raises(ConfigError, match=f"^{path}: .*UTF-8"):
        read_keys(path)


@pytest.mark.parametrize("text", [f"{LINK}\n", f'"{LINK}"', f"  {LINK[:50]}\n{LINK[50:]}\r\n", f"'{LINK}'\n"])
def test_variables_as_shells_and_containers_set_them(monkeypatch, text):
    monkeypatch.setenv("LANE_SERVER", text)
    monkeypatch.setenv("LANE_LISTEN", "'127.0.0.1:5'\n")
    monkeypatch.setenv("LANE_CONGESTION", '"cubic"')
    config = client_config(parse("client")[0])
    assert (config.server, config.listen) == (Link.parse(LINK), Address("127.0.0.1", 5))
    assert parse("client")[0].congestion == "cubic"


def test_a_value_on_the_command_line_is_what_it_is():
    """But for a line end, which a shell left there."""
    config = client_config(
        parse("client", "--server", f"{LINK[:40]}\n{LINK[40:]}", "--auth", "'a':b \r\n")[0]
    )
    assert (config.server, config.credentials) == (Link.parse(LINK), (b"'a'", b"b "))


def no_home(monkeypatch):
    monkeypatch.setattr("pwd.getpwuid", lambda uid: {}[uid])
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)


@pytest.mark.parametrize("command", ["server", "link"])
def test_who_has_no_home(command, monkeypatch, tmp_path, capsys):
    no_home(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "~/.config/lane").mkdir(parents=True)
    (tmp_path / "~/.config/lane/server.conf").write_text("nonsense")
    assert cli.main([command, "--listen", "127.0.0.1:0", "--host", "h:1"]) == 2
    err = capsys.readouterr().err
    assert (
        err == "lane: this user has no home: pass --state-dir DIR, where certificate and accounts are kept\n"
    )
    assert cli.main([command, "--state-dir", "~/x", "--host", "h:1"]) == 2
    assert "--state-dir: ~/x: there is no home ~ here: give the path in full" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["~"]
    assert server_config(parse("server", "--state-dir", "x")[0]).state_dir == Path("x")
    monkeypatch.setenv("STATE_DIRECTORY", "/var/lib/lane:/var/lib/other")
    assert server_config(parse("server")[0]).state_dir == Path("/var/lib/lane")
    assert client_config(parse("client")[0]).server is None


def test_a_home_of_the_state_that_is_no_full_path_is_ignored(monkeypatch):
    """XDG Base Directory says so."""
    monkeypatch.setenv("XDG_STATE_HOME", "here")
    monkeypatch.setenv("HOME", "/home/me")
    assert server_config(parse("server")[0]).state_dir == Path("/home/me/.local/state/lane")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["sevrer"], "unknown command 'sevrer', did you mean server?"),
        (["plugin"], "unknown command 'plugin', did you mean plugins?"),
        (["client", "--sever", "x"], "unknown option --sever, did you mean --server?"),
        (["--lsten=x"], "unknown option --lsten, did you mean --listen?"),
        (["server", "--alow", "x"], "unknown option --alow, did you mean --allow?"),
        (["client", "--state-dir", "x"], "unknown option --state-dir, lane server has it"),
        (["server", "--auth=me:secret"], "unknown option --auth, lane client has it"),
    ],
)
def test_what_was_meant(argv, said, capsys):
    assert cli.main(argv) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "secret" not in err


def test_a_key_that_was_meant(conf, capsys):
    file = conf("server = embedded\nlog-levle = debug\n")
    assert cli.main(["-c", str(file)]) == 78
    assert "unknown key 'log-levle', did you mean log-level?" in capsys.readouterr().err


@pytest.mark.parametrize(
    "argv", [["-V"], ["version"], ["--version"], ["server", "-V"], ["client", "--version"]]
)
def test_the_version_by_its_usual_names(argv, capsys):
    assert cli.main(argv) == 0
    assert re.fullmatch(r"lane \d.*\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    ("argv", "begin"),
    [
        (["help"], "usage: lane [command]"),
        (["help", "server"], "usage: lane server"),
        (["server", "help"], "usage: lane server"),
        (["help", "--help"], "usage: lane [command]"),
    ],
)
def test_help_is_a_word_too(run_lane, argv, begin):
    result = run_lane(*argv)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(begin)
    fails(run_lane("help", "servr"), 2, "lane: unknown command 'servr', did you mean server\\? .*")


@pytest.mark.parametrize("key", ["-" + "A" * 42, "--" + "A" * 41, "-c" + "A" * 41, "-h" + "A" * 41])
def test_a_key_may_begin_with_a_dash(key):
    for argv in (["--key", key], [f"--key={key}"]):
        config = client_config(parse("client", "--server", "192.0.2.1:1", *argv)[0])
        assert encode(config.key)[:40] == key[:40]


def test_a_value_that_begins_with_a_dash():
    config = client_config(parse("client", "--auth", "-me:-secret", "--listen", "127.0.0.1:1")[0])
    assert (config.credentials, config.listen) == ((b"-me", b"-secret"), Address("127.0.0.1", 1))
    with pytest.raises(UsageError, match="expected one argument"):
        parse("client", "--auth", "--listen", "127.0.0.1:1")
    with pytest.raises(UsageError, match="expected one argument"):
        parse("client", "--auth", "--lsten", "127.0.0.1:1")
    assert parse("server", "--allow-bind", "--listen", ":1")[0].allow_bind == "yes"


@pytest.mark.parametrize("repeated", ["forward", "rule", "redirect", "reverse"])
def test_a_key_that_may_be_given_often(conf, repeated):
    values = {
        "forward": ("tcp://127.0.0.1:0=a:1", "udp://127.0.0.1:0=b:2"),
        "rule": ("block a.example", "direct b.example"),
        "redirect": ("127.0.0.1:1", "127.0.0.1:2"),
        "reverse": ("tcp://:1=a:1", "tcp://:2=b:2"),
    }[repeated]
    lines = "".join(f"{repeated} = {value}\n" for value in values)
    twice = client_config(parse("client", "-c", conf(f"server = embedded\n{lines}"))[0])
    once = client_config(
        parse("client", "-c", conf(f"server = embedded\n{repeated} = {', '.join(values)}\n"))[0]
    )
    assert twice == once
    parse("check", "-c", conf(f"server = {LINK}\n{lines}"))  # which has no such option
    allowed = server_config(
        parse("server", "-c", conf("allow = 10.0.0.0/8\nallow = 10.1.2.3\nallow = a.b\n"))[0]
    )
    assert len(allowed.allow) == 3


def test_a_port_alone():
    assert client_config(parse("client", "--listen", "4455")[0]).listen == Address("127.0.0.1", 4455)
    assert server_config(parse("server", "--listen", "4455")[0]).listen == Address("", 4455)
    with pytest.raises(
        UsageError, match=r"--redirect: malformed address '4455': a port alone is written :4455"
    ):
        client_config(parse("client", "--redirect", "4455")[0])
    with pytest.raises(UsageError, match=r"--listen: .*: the port must be 0 to 65535"):
        server_config(parse("server", "--listen", "70000")[0])


@pytest.mark.parametrize("option", ["--host", "--listen"])
def test_a_url_is_no_address(option):
    with pytest.raises(
        UsageError, match=f"{option}: malformed address: expected HOST:PORT, without https://"
    ):
        server_config(parse("server", option, "https://proxy.example.com")[0])


@pytest.mark.parametrize("option", ["--allow", "--deny"])
@pytest.mark.parametrize("rule", ["*", "*:443"])
def test_everything_is_written_as_networks(option, rule):
    with pytest.raises(UsageError, match=r"0\.0\.0\.0/0 and ::/0 are all targets"):
        server_config(parse("server", option, rule)[0])
    with pytest.raises(UsageError, match=r"'\*\.a\.example': a\.example stands for its subdomains, too"):
        server_config(parse("server", option, "*.a.example")[0])


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "[::]", "127.9.9.9"])
def test_a_link_for_this_machine_only_is_told(tmp_path, capsys, host):
    state.keep(tmp_path / "state")
    argv = ["link", "--state-dir", str(tmp_path / "state"), "--host"]
    assert cli.main([*argv, f"{host}:4433"]) == 0
    said = capsys.readouterr()
    assert Link.parse(said.out).address.host == host.strip("[]")
    assert said.err.endswith(" works on this machine only: --host is the name or address that clients use\n")
    assert cli.main([*argv, "192.0.2.1"]) == 0
    assert capsys.readouterr().err == ""


def test_a_link_that_this_user_may_not_read(tmp_path, capsys, monkeypatch):
    state.keep(tmp_path / "state")

    def forbidden(path):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", forbidden)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert cli.main(["link", "--state-dir", str(tmp_path / "state"), "--host", "h"]) == 78
    said = f"lane: cannot read {tmp_path / 'state' / 'accounts.db'}: Permission denied (try it with sudo)\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize("width", [5, 20, 55, 62, 70, 1000])
@pytest.mark.parametrize("how", ["{}\n{}", "{}\n    {}", "{}\\\n  {}", '"{}\n{}"', "'{}\r\n\t{}'"])
def test_a_link_in_a_file_may_be_wrapped(conf, width, how):
    at = len("lane://") + width
    file = conf(f"transport = tls\nserver = {how.format(LINK[:at], LINK[at:])}\nlisten = :1\n")
    namespace, _, warnings = parse("client", "-c", file)
    assert (namespace.transport, namespace.listen, warnings) == ("tls", ":1", [])
    assert unwrapped(namespace.server) == LINK


@pytest.mark.parametrize("indent", ["", "  ", "\t"])
def test_what_follows_a_link_in_a_file_is_no_part_of_it(conf, indent):
    lines = [f"server = {LINK}", "# a comment", "transport=tls", "listen = :1"]
    file = conf("".join(f"{indent}{line}\n" for line in lines))
    namespace, _, _ = parse("client", "-c", file)
    assert (namespace.server, namespace.transport, namespace.listen) == (LINK, "tls", ":1")


@pytest.mark.parametrize("text", ["transport = tls\n  quic\n", "server = h:1\n  more\n"])
def test_nothing_else_in_a_file_may_be_wrapped(conf, text):
    with pytest.raises(ConfigError, match=":2: expected `key = value`"):
        parse("client", "-c", conf(text))
