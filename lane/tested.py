"""Comparison of installed libraries with the versions that lane was tested with.

lane uses private names of some libraries. setup.cfg limits the versions, but it also allows versions that did
not exist yet, in which a private name may be gone or have another meaning. So the installed version is
compared at the start. An untested one is logged as a warning.
"""

import logging
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

log = logging.getLogger("lane")

_MOST_NAMES = 5
_notes: dict[str, str] = {}  # warnings to log, by package


def is_tested(
    package: str, versions: Sequence[str], *, missing: Sequence[str] = (), otherwise: str = "it may not work"
) -> bool:
    """Whether one of `versions` of a package is installed ("1.7" means any 1.7.x), and no name is missing.

    If not, `tell` will log a warning. `otherwise` is its text about the consequence.
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
    """The `names` that an object of a library lacks, as `Class.name`."""
    return [f"{type(example).__name__}.{name}" for name in names if not hasattr(example, name)]


def tell() -> None:
    """Log the warnings of `is_tested`, one for each package, once. Call it when the log is set up."""
    for note in _notes.values():
        log.warning("%s", note)
    _notes.clear()
