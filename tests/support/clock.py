"""A clock for tests in which time is what they say."""


class FakeClock:
    """A clock that stands still unless somebody moves `now`, seconds."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now
