"""Files that are installed beside lane: completions, the manual page, configuration files and units.

They are where the installation's prefix has such files, such as share/ of a virtual environment, or in the
checkout.
"""

import re
from pathlib import Path

import lane
from lane.errors import ConfigError, UsageError

SHELLS = {
    "bash": "bash-completion/completions/lane",
    "zsh": "zsh/site-functions/_lane",
    "fish": "fish/vendor_completions.d/lane.fish",
}
"""The file of each shell's completions, below share/."""
MANUAL = "man/man1/lane.1"


def shipped(name: str) -> Path:
    """The installed file `name`, relative to share/. Raises ConfigError where there is none."""
    folder = Path(lane.__file__).resolve().parent
    in_checkout = folder.parent / re.sub("^lane/", "conf/", name)
    for found in (in_checkout, *(each / "share" / name for each in folder.parents)):
        if found.is_file():
            return found
    raise ConfigError(f"{name} was not installed with lane; pip install lane brings it")


def print_completion(shell: str) -> int:
    """Print the completions for `shell`. Raises UsageError for a shell that lane does not know."""
    if shell not in SHELLS:
        raise UsageError(f"--print-completion: expected {', '.join(SHELLS)}")
    print(shipped(SHELLS[shell]).read_text(), end="")
    return 0
