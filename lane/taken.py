"""What a session takes while it lives: its place, its share of a limit, its entry in a table.

It does what is used here of contextlib.ExitStack, which takes several times as long, for each session.
"""

from collections.abc import Callable


class Taken:
    """What was taken. At the end of the context, it is given back in the opposite order."""

    __slots__ = ("_calls",)

    def __init__(self) -> None:
        self._calls: list[tuple[Callable[..., object], tuple[object, ...]]] = []

    def then(self, call: Callable[..., object], *arguments: object) -> None:
        """Call this at the end, before what came earlier."""
        self._calls.append((call, arguments))

    def close(self) -> None:
        """Give all of it back now. Idempotent."""
        self.__exit__()

    def forget(self) -> None:
        """Call none of it."""
        self._calls.clear()

    def move(self) -> "Taken":
        """All of it in an object of its own."""
        moved = Taken()
        moved._calls, self._calls = self._calls, moved._calls
        return moved

    def __enter__(self) -> "Taken":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            while self._calls:
                call, arguments = self._calls.pop()
                call(*arguments)
        finally:
            if self._calls:  # one has failed: the others are called all the same
                self.__exit__()
