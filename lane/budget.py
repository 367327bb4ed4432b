"""Bytes that all sessions of a process may hold, and what one user may have of them.

Each session has a little for itself. What it holds beyond that comes out of one budget, of which nobody gets
the last: each may take a part of what is left. Where users don't know each other, each has a share as well.
"""

PLENTY = 64 << 20
"""Bytes that must be left for some to be taken without need."""


class Budget:
    """Bytes that all sessions of the process may hold beyond what each may hold anyway."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    def take(self, size: int) -> bool:
        """Reserve `size` bytes, if that is at most a quarter of what is left: the last never get nothing."""
        if size * 4 > self.total - self.used:
            return False
        self.used += size
        return True

    def take_most(self, size: int) -> int:
        """Reserve up to `size` bytes, and no more than a quarter of what is left: how many."""
        size = max(0, min(size, (self.total - self.used) // 4))
        self.used += size
        return size

    def charge(self, size: int) -> None:
        """Count `size` bytes that are held already, whether there is room or not."""
        self.used += size

    @property
    def plenty(self) -> bool:
        """Whether so much is left that nobody has to show a need for a little."""
        return self.total - self.used > PLENTY

    def give(self, size: int) -> None:
        """Return what was taken."""
        self.used -= size


class Share(Budget):
    """What the sessions of one user take of `whole`: never more than what is left for all others."""

    def __init__(self, whole: Budget) -> None:
        super().__init__(whole.total)
        self._whole = whole

    def take(self, size: int) -> bool:
        """See `Budget`."""
        if size > self._left or not self._whole.take(size):
            return False
        self.used += size
        return True

    def take_most(self, size: int) -> int:
        """See `Budget`."""
        size = self._whole.take_most(min(size, self._left))
        self.used += size
        return size

    def charge(self, size: int) -> None:
        """See `Budget`."""
        self.used += size
        self._whole.charge(size)

    @property
    def plenty(self) -> bool:
        """See `Budget`."""
        return self._whole.plenty and self._left > PLENTY // 2

    def give(self, size: int) -> None:
        """See `Budget`."""
        self.used -= size
        self._whole.give(size)

    @property
    def _left(self) -> int:
        """Bytes that the user may still take: with each, as many are left as he has."""
        return max(0, (self.total - self._whole.used - self.used) // 2)
