import pytest

from lane.cli import main, shipped
from lane.cli.shipped import SHELLS
from lane.errors import ConfigError


@pytest.mark.parametrize("shell", SHELLS)
@pytest.mark.parametrize("how", ["--print-completion={}", "--print-completion {}"])
def test_the_completions_for_a_shell_are_printed(shell, how, capsys):
    assert main(how.format(shell).split()) == 0
    assert capsys.readouterr().out == shipped.shipped(SHELLS[shell]).read_text()


@pytest.mark.parametrize(
    "argument", ["--print-completion", "--print-completion=tcsh", "--print-completion bash zsh"]
)
def test_another_shell_is_refused_with_those_that_there_are(argument, capsys):
    assert main(argument.split()) == 2
    assert capsys.readouterr().err == "lane: --print-completion: expected bash, zsh, fish\n"


def test_files_are_found_in_each_prefix(tmp_path, monkeypatch):
    package = tmp_path / "lib" / "python3.11" / "site-packages" / "lane"
    package.mkdir(parents=True)
    monkeypatch.setattr(shipped.lane, "__file__", str(package / "__init__.py"))
    with pytest.raises(ConfigError, match=r"lane/x\.conf was not installed"):
        shipped.shipped("lane/x.conf")
    file = tmp_path / "share" / "lane" / "x.conf"
    file.parent.mkdir(parents=True)
    file.touch()
    assert shipped.shipped("lane/x.conf") == file
