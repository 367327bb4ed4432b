"""Which versions of a library lane was tested with, where it uses what the library does not promise to keep.

setup.cfg says what may be installed. That is a guess about versions that were not there yet: a private name
may be gone with any of them, or mean something else. So the version that runs is compared at the start, and
whoever reads the log hears of one that nobody has tested.
"""

import logging
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

log = logging.getLogger("lane")

_MOST_NAMES = 5
_notes: dict[str, str] = {}  # what is to be told, by package


def is_tested(
    package: str, versions: Sequence[str], *, missing: Sequence[str] = (), otherwise: str = "it may not work"
) -> bool:
    """Whether one of `versions` of a package is installed ("1.7" is any 1.7.x), and no name is missing.

    If not, `tell` says so: `otherwise` is what follows from that, for people.
    """
    try:
        found = version(package)
    except PackageNotFoundError:
        found = "of an unknown version"
    known = any(f"{found}.".startswith(f"{one}.") for one in versions)
    if known and not missing:
        _notes.pop(package, None)
        return True
    lacks = ", ".join(missing[:_MOST_NAMES]) + (", ..." if len(missing) > _MOST_NAMES else "")
    _notes[package] = (
        f"{package} {found} is installed, and lane was tested with {' and '.join(versions)}"
        f"{f'; it lacks {lacks}' if missing else ''}: {otherwise}"
    )
    return False


def lacking(example: Any, names: Sequence[str]) -> list[str]:
    """Which `names` an object of a library does not have, as `Class.name`."""
    return [f"{type(example).__name__}.{name}" for name in names if not hasattr(example, name)]


def tell() -> None:
    """Log what `is_tested` found, a warning for each package, once. To be called when the log is set up."""
    for note in _notes.values():
        log.warning("%s", note)
    _notes.clear()
