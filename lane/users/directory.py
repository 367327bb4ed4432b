"""Accounts that are all in memory, and follow the place where they are kept.

A look-up is one in a dict, however many accounts there are. The place is asked for changes a few times a
second, in a thread of its own, since a disk may be slow.
"""

import logging
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Protocol, TypeVar

import gevent
from gevent.threadpool import ThreadPool

from lane.errors import ConfigError, LaneError
from lane.supervisor import FAULTS, report, supervise
from lane.tasks import aside
from lane.users.account import Account
from lane.users.book import Book, Changes
from lane.users.rate_shares import RateShares, Use, Wants
from lane.users.source import Source
from lane.users.tokens import Tokens

T = TypeVar("T")

DAY = 86400.0
PERIOD = 0.4
"""Seconds between two looks for changes."""

log = logging.getLogger("lane.users")


class Directory(Source):
    """Accounts of which `changes` tells: see `lane.users.book.Book.changes`. `period`: seconds between calls.

    `changes(None)` is called at once; it raises LaneError if the accounts can't be read. A later failure is
    logged, and the accounts that are known stay in force. `thread`: call it in a thread, where it may block.
    """

    def __init__(
        self, changes: Callable[[int | None], Changes | None], period: float = PERIOD, *, thread: bool = True
    ) -> None:
        self._changes = changes
        self._period = period
        self._room = ThreadPool(1) if thread else None
        self._number: int | None = None
        self._tokens = Tokens()
        self._told: Callable[[Changes], None] = lambda _: None
        self._watcher: Any = None
        self._failed = False
        self._take(changes(None))

    def __len__(self) -> int:
        return len(self._tokens)

    def find(self, token: bytes, binding: bytes, peer: str) -> Account | None:
        """See `Source`."""
        return self._tokens.find(token, binding)

    def get(self, name: str) -> Account | None:
        """See `Source`."""
        return self._tokens.get(name)

    def prepare(self, binding: bytes) -> None:
        """See `Source`."""
        self._tokens.prepare(binding)

    def start(self, told: Callable[[Changes], None], online: Callable[[str], bool]) -> None:
        """See `Source`."""
        self._told = told
        self._watcher = supervise("the watch over accounts", self._watch)

    def refresh(self) -> None:
        """See `Source`."""
        self._take(self.aside(partial(self._changes, self._number)))

    def close(self) -> None:
        """See `Source`."""
        if self._watcher is not None:
            self._watcher.kill(block=False)

    def aside(self, work: Callable[[], T]) -> T:
        """The result of `work`, which may block, and is done in this directory's thread if it has one."""
        return work() if self._room is None else aside(self._room, work)

    def _watch(self) -> None:
        while True:
            gevent.sleep(self._period)
            try:
                self.refresh()
            except LaneError as error:
                if not self._failed:
                    log.warning("accounts stay as they are: %s", error)
                self._failed = True
            except FAULTS as error:  # of a plugin
                report("the look for changes of accounts", error)
            else:
                if self._failed:
                    log.info("accounts can be read again")
                self._failed = False

    def _take(self, found: Changes | None) -> None:
        """Apply changes, and tell of those that are real."""
        if found is None:
            return
        self._number = found.number
        accounts = dict(found.accounts)
        if found.whole:
            accounts |= {one.name: None for one in self._tokens if one.name not in accounts}
        fresh = {name: one for name, one in accounts.items() if one != self._tokens.get(name)}
        for name, account in fresh.items():
            if account is None:
                self._tokens.remove(name)
            else:
                self._tokens.put(account)
        if fresh or found.kicked:
            log.debug("accounts that have changed: %s", ", ".join([*fresh, *found.kicked][:10]))
            self._told(Changes(found.number, fresh, found.kicked))


class BookDirectory(Directory):
    """The accounts of a book, which gets what users have used."""

    def __init__(self, book: Book, *, thread: bool = True) -> None:
        self.book = book
        self._tidy = 0.0  # when old usage is dropped next
        super().__init__(book.changes, thread=thread)

    def count(self, used: Mapping[str, tuple[int, int]], seen: Iterable[str], now: float) -> None:
        """See `Source`."""
        if now > self._tidy:
            self._tidy = now + DAY
            self.aside(partial(self.book.forget, now))
        # The last step: once it is done, nothing may fail, or the same bytes would come again.
        self.aside(partial(self.book.count, used, seen, now))

    def spent(self, names: Iterable[str], now: float) -> dict[str, int]:
        """See `Source`."""
        found = self.aside(partial(self.book.spent, now, [*names]))
        return {name: sum(used) for name, used in found.items()}

    def close(self) -> None:
        """See `Source`."""
        super().close()
        self.aside(self.book.close)


class Restores(Book, Protocol):
    """A book that may lose what it has, since it is another program's."""

    def restore(self, accounts: Iterable[Account], number: int) -> None:
        """Put back accounts that it has lost. `number`: that of the last change."""

    def exchange(self, process: str, wants: Wants) -> Mapping[str, Wants]:
        """Tell others what users of this process want of their rates. Returns what they want in each."""


class SharedDirectory(BookDirectory):
    """The accounts of a book that other servers share, and that has sockets instead of files.

    `server` is the name that the processes of this server have in common.
    """

    def __init__(self, book: Restores, server: str) -> None:
        self._shared = book
        self._shares = RateShares(server)
        self._process = f"{server}/{os.getpid()}"
        super().__init__(book, thread=False)
        self._changes = self._look

    def share(self, uses: Mapping[str, Use], rates: Mapping[str, float]) -> Mapping[str, tuple[float, float]]:
        """See `Source`. While the others can't be heard, what they wanted last counts: see `RateShares`."""
        wants = self._shares.wants(uses, rates)
        with suppress(ConfigError):  # the look for changes says it
            self._shares.hear(self._shared.exchange(self._process, wants))
        return self._shares.parts(rates)

    def _look(self, since: int | None) -> Changes | None:
        found = self._shared.changes(since)
        if found is None or since is None or found.number >= since:
            return found
        log.warning("the accounts have lost changes: those that are known here are put back")
        self._shared.restore(self._tokens, since)
        return self._shared.changes(None)
