"""Where options come from: the command line, variables and files, as people and programs write them."""

import pytest

from lane.address import Address
from lane.config import client_config, server_config
from lane.egress.rules import read_rules
from lane.errors import ConfigError
from lane.link import Link, unwrapped
from lane.users.keys_file import read_keys
from tests.support.command_line import LINK, parse


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


def test_unknown_variables_are_named(monkeypatch):
    monkeypatch.setenv("LANE_LISTNE", "x")
    monkeypatch.setenv("LANE_STATE_DIR", "of another command")
    monkeypatch.setenv("LANE_TEST_ANYTHING", "x")
    lines = [line for line in parse("client")[2] if line.startswith("LANE_")]
    assert lines == ["LANE_LISTNE is no option of lane, did you mean LANE_LISTEN?: ignored"]
    for number in range(50):
        monkeypatch.setenv(f"LANE_X{number}", "x")
    assert len([line for line in parse("client")[2] if line.startswith("LANE_")]) == 10


def test_check_reads_the_clients_file_and_tries_all_transports(conf):
    file = conf("server = example.com:1\ntransport = tls\nbuffer-size = 8KB\nanything = 1\n")
    namespace, _, _ = parse("check", "-c", file)
    assert (namespace.server, namespace.transport, namespace.buffer_size) == ("example.com:1", "auto", "16MB")
    assert parse("check", "-c", file, "--transport", "tls")[0].transport == "tls"


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
