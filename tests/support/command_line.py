"""The command line of lane: how it is parsed, and how it fails."""

import re

from lane.cli import option_parser

LINK = f"lane://{'A' * 43}@192.0.2.1:4433?pin={'A' * 43}"


def parse(command, *argv):
    """The options, the plugins, and the warnings."""
    warnings = []
    namespace, plugins = option_parser.parse(command, [str(a) for a in argv], warnings.append)
    return namespace, plugins, warnings


def fails(result, status, line):
    """One line on standard error, and no other."""
    assert result.returncode == status, result.stderr
    assert re.fullmatch(line + r"\n", result.stderr), result.stderr
    assert result.stdout == ""
