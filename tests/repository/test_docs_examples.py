"""The commands that the documents show are commands that lane takes, and their files are ones that it reads.

docs/PLUGINS.md, docs/PROTOCOL.md, docs/TRANSPARENT.md and docs/FAIL2BAN.md have tests of their own that run
what they show.
"""

import base64
import re
import shlex
from pathlib import Path

import pytest

from lane.cli import commands as commands_of_lane
from lane.cli import option_parser, running
from lane.egress.rules import RouteRule
from lane.testing import server_tls

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ALREADY_RUN = {"PLUGINS.md", "PROTOCOL.md", "FAIL2BAN.md"}
KEY = base64.urlsafe_b64encode(bytes(32)).decode().rstrip("=")
LINK = f"lane://{KEY}@proxy.example.com:4433?pin={KEY}"
STANDS_FOR = {"'lane://...'": LINK, "@FILE": "@link", "SERVER": "proxy.example.com"}
"""What a reader puts into the place of what is written."""


def blocks(document):
    return re.findall(r"(?ms)^```\w*\n(.*?)^```$", document.read_text())


def commands(document):
    """The arguments of each `lane` in a document."""
    for block in blocks(document):
        for found in re.findall(r"(?m)^(?:\$ )?(?:sudo )?(?:[\w./]*/)?lane((?: [a-z-]\S*.*)?)$", block):
            command = found.partition(" #")[0]
            for written, meant in STANDS_FOR.items():
                command = command.replace(written, meant)
            yield shlex.split(command)


EXAMPLES = [(one.name, argv) for one in DOCUMENTS if one.name not in ALREADY_RUN for argv in commands(one)]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """One with the files that examples name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LANE_HOST", "proxy.example.com")  # where README says that the file has it
    Path("link").write_text(LINK)
    Path("keyfile").write_text(KEY)
    Path("admin-secret").write_text(KEY)
    Path("ca.pem").write_bytes(server_tls().chain_pem)
    Path("client.rules").write_text("direct *\n")
    for file in tmp_path.iterdir():
        file.chmod(0o600)
    return tmp_path


@pytest.mark.parametrize(
    ("document", "argv"), EXAMPLES, ids=[f"{name} {argv}"[:60] for name, argv in EXAMPLES]
)
def test_an_example_is_a_command_that_lane_takes(document, argv, folder):
    command, rest = commands_of_lane.split(argv)
    warnings = []
    namespace, plugins = option_parser.parse(command, rest, warnings.append)
    running.CONFIGS[command](namespace)
    if command in option_parser.WITH_PLUGIN_OPTIONS:
        plugins.configure(namespace)
    assert not warnings, document


def test_there_are_examples():
    assert {name for name, _ in EXAMPLES} >= {
        "README.md",
        "FORWARDS.md",
        "RULES.md",
        "UDP.md",
        "TRANSPARENT.md",
    }


def test_the_file_of_rules_is_one_that_lane_reads():
    (block,) = [block for block in blocks(ROOT / "docs" / "RULES.md") if not block.startswith("lane --")]
    rules = [RouteRule.parse(line) for line in block.splitlines()]
    assert [rule.action.value for rule in rules] == ["lane", "lane", "block", "direct"]
