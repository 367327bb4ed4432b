"""The memory budget: bytes that all sessions of a process may hold, and the share of one user.

Each session has a small fixed amount. Beyond it, memory comes from one common budget. Each request may take
only a part of what is left, so the budget never runs out for the last one. On a server each user has a share.
"""

PLENTY = 64 << 20
"""Free bytes above which a session may take a little memory in advance."""


class Budget:
    """Bytes that all sessions of the process may hold beyond each one's fixed amount."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0

    def take(self, size: int) -> bool:
        """Reserve `size` bytes if they are at most a quarter of the free bytes. Return whether they are."""
        if size * 4 > self.total - self.used:
            return False
        self.used += size
        return True

    def take_most(self, size: int) -> int:
        """Reserve up to `size` bytes, at most a quarter of the free bytes. Return how many."""
        size = max(0, min(size, (self.total - self.used) // 4))
        self.used += size
        return size

    def charge(self, size: int) -> None:
        """Count `size` bytes that are held already, whether there is room or not."""
        self.used += size

    @property
    def plenty(self) -> bool:
        """Whether enough is free to take a little in advance."""
        return self.total - self.used > PLENTY

    def give(self, size: int) -> None:
        """Give back `size` reserved bytes."""
        self.used -= size


class Share(Budget):
    """One user's share of the budget `whole`: never more bytes than are free for all others."""

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
        """Bytes that the user may still take. After that, as many bytes are free as the user holds."""
        return max(0, (self.total - self._whole.used - self.used) // 2)
