"""The project's Python files, and what a rule that all of them keep finds in each."""

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SOURCES = [path for folder in ("lane", "plugins") for path in sorted((ROOT / folder).rglob("*.py"))]


def findings(
    rule: Callable[[Path], Collection[Any]], paths: Iterable[Path] = SOURCES
) -> dict[str, Collection[Any]]:
    """What `rule` finds in the files in which it finds anything, by their paths in the project.

    A test has all files: to begin one for each takes longer than to look at it.
    """
    return {str(path.relative_to(ROOT)): found for path in paths if (found := rule(path))}
