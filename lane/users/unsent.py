"""Counts on their way to a Redis, which survive that it is down, and the end of this process meanwhile.

They go in batches with a name each. A batch that was sent once stays as it is, because nobody knows whether
it arrived. What is counted after it goes into the next one. While Redis is down they are in a file as well. A
process that begins takes over the files of processes that have ended.
"""

import json
import os
import secrets
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

with suppress(ImportError):  # a server needs Unix: see `lane.state`
    import fcntl

PATTERN = "usage-*.unsent"
"""The names of the files."""


@dataclass(slots=True)
class Batch:
    """Bytes (up, down) by user on one day."""

    name: str
    day: str
    used: dict[str, tuple[int, int]] = field(default_factory=dict)
    sent: bool = False
    """It may have arrived."""


class Unsent:
    """The batches of this process, the oldest first. `folder` has the files; None: there are none.

    Raises OSError.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self.batches: list[Batch] = []
        self._folder = folder
        self._path: Path | None = None
        self._file = -1  # locked, so that nobody takes it over
        self._dead: list[tuple[Path, int]] = []  # files that were taken over, and are locked
        if folder is not None:
            self._take_over(folder)

    def add(self, day: str, used: Mapping[str, tuple[int, int]]) -> None:
        """Count more bytes."""
        if not self.batches or self.batches[-1].sent or self.batches[-1].day != day:
            self.batches.append(Batch(secrets.token_hex(16), day))
        counts = self.batches[-1].used
        for name, (up, down) in used.items():
            before = counts.get(name, (0, 0))
            counts[name] = before[0] + up, before[1] + down

    def save(self) -> None:
        """Write what is here to a file, or remove the file if nothing is here. It may block."""
        if self._folder is None:
            return
        if self.batches:
            if self._path is None:
                self._path = self._folder / f"usage-{secrets.token_hex(8)}.unsent"
            new = self._path.with_suffix(".new")
            file = os.open(new, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX)
                with os.fdopen(os.dup(file), "w") as writer:
                    json.dump([[one.name, one.day, one.used] for one in self.batches], writer)
                    writer.flush()
                    os.fsync(file)
                os.replace(new, self._path)
            except BaseException:  # a full disk
                os.close(file)
                new.unlink(missing_ok=True)
                raise
            self._let_go()
            self._file = file
        elif self._path is not None:
            self._path.unlink(missing_ok=True)
            self._path = None
            self._let_go()
        for path, file in self._dead:  # what they had is in our file, or has arrived
            path.unlink(missing_ok=True)
            os.close(file)
        self._dead = []

    def _let_go(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _take_over(self, folder: Path) -> None:
        for path in sorted(folder.glob(PATTERN)):
            file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(file)  # its process lives
                continue
            with suppress(ValueError, TypeError), os.fdopen(os.dup(file)) as reader:
                for name, day, used in json.load(reader):
                    counts = {user: (int(up), int(down)) for user, (up, down) in used.items()}
                    self.batches.append(Batch(name, day, counts, sent=True))
            self._dead.append((path, file))
