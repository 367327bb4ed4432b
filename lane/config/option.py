"""What an option of lane is: how it is written, read, declared and described. `settings` has all options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

PerCommand = str | Mapping[str, str]
"""A text, or one for each command."""


def _of(text: PerCommand, command: str) -> str:
    return text if isinstance(text, str) else text.get(command, "")


def sentence(text: str) -> str:
    """`text` with a capital letter and a full stop."""
    return f"{text[:1].upper()}{text[1:].removesuffix('.')}."


@dataclass(frozen=True, slots=True)
class Option:
    """One option. Texts are those of users; an empty one means that there is none."""

    name: str
    """`--name`, `name = value` in a file, and `LANE_NAME` as a variable."""
    metavar: str
    parse: Callable[[Any], Any]
    """Reads the text, or the list of texts where the option can be repeated. Raises UsageError."""
    help: PerCommand
    """What `--help` says, without the default."""
    default: PerCommand = ""
    kind: Literal["value", "list", "flag", "file"] = "value"
    """`list` can be repeated, `flag` is yes or no, and `file` names a configuration file."""
    commands: tuple[str, ...] = ()
    """The commands that have it; those of its group where there are none here."""
    field: str = ""
    """The field of the configuration that gets the value, where it has another name."""
    live: tuple[str, ...] = ()
    """The commands that read it, and the file that it names, again on SIGHUP; others take a restart."""
    secret: Callable[[Any], bool] | None = None
    """Whether a value is one that nobody else may read; None where no value is."""
    tidy: Callable[[str], str] | None = None
    """What comes before all else that is done to the text, instead of taking off the line ends."""
    comment: PerCommand = ""
    """What conf/ and docs/ say, where it is more than `help`."""
    example: PerCommand = ""
    """A value for conf/ and docs/, where there is no default."""
    counts: bool = False
    """Whether the line in conf/ counts as it stands, and is no comment."""

    @property
    def dest(self) -> str:
        """The name in argparse's namespace."""
        return self.name.replace("-", "_")

    def default_of(self, command: str) -> str | None:
        """What holds where nothing is given; None where that is no text."""
        return "no" if self.kind == "flag" else _of(self.default, command) or None

    def help_of(self, command: str) -> str:
        """What `lane COMMAND --help` says."""
        text, default = _of(self.help, command), _of(self.default, command)
        return f"{text} (default: {default})" if default else text

    def description(self, command: str) -> str:
        """What conf/ and docs/ say, in whole sentences."""
        return sentence(_of(self.comment, command) or _of(self.help, command))

    def example_of(self, command: str) -> str:
        """The value that conf/ shows: the default where there is one."""
        return self.default_of(command) or _of(self.example, command)


@dataclass(frozen=True, slots=True)
class Group:
    """Options that `--help` and conf/ show together."""

    title: PerCommand
    commands: tuple[str, ...]
    options: tuple[Option, ...]

    def of(self, command: str) -> list[Option]:
        """Those that `command` has."""
        return [one for one in self.options if command in (one.commands or self.commands)]

    def title_of(self, command: str) -> str:
        """What the group is called there."""
        return _of(self.title, command)
