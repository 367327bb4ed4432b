"""What is written on the command line: words, values, and what was meant."""

import re

import pytest

from lane import cli
from lane.address import Address
from lane.cli import option_parser
from lane.config import client_config, server_config
from lane.errors import UsageError
from lane.link import Link, encode
from tests.support.command_line import LINK, fails, parse


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


def test_no_check_is_a_flag_or_a_value(conf):
    assert parse("client")[0].no_check == "no"
    assert parse("client", "--no-check")[0].no_check == "yes"
    assert parse("client", "-c", conf("server = embedded\nno-check = yes\n"))[0].no_check == "yes"


def test_a_value_on_the_command_line_is_what_it_is():
    """But for a line end, which a shell left there."""
    config = client_config(
        parse("client", "--server", f"{LINK[:40]}\n{LINK[40:]}", "--auth", "'a':b \r\n")[0]
    )
    assert (config.server, config.credentials) == (Link.parse(LINK), (b"'a'", b"b "))


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
