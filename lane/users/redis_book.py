"""Accounts in a Redis, which many servers share: users, limits and usage (`--accounts redis://HOST/0`).

    lane:accounts          a hash: by name, the account as JSON, with its `key` in base64url
    lane:sequence          the number of the last change
    lane:events            a sorted set of the last changes: JSON lists of number, what, name
    lane:usage:2026-01-31  a hash of bytes by day: `up NAME`, `down NAME`
    lane:usage:2026-01     the same by month
    lane:seen              a hash: when users were last there
    lane:batch:ID          counts that have been added already
    lane:process:ID        see `lane.users.redis_exchange`

Counts go in batches with a name (`lane.users.unsent`). Redis adds a batch once, however often it is sent: a
server that has got no answer sends it again.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import redis
import redis.connection
from gevent import get_hub, socket
from gevent.lock import BoundedSemaphore
from redis.backoff import NoBackoff
from redis.retry import Retry

from lane.errors import ConfigError, UsageError
from lane.link import decode, encode
from lane.log import Throttle
from lane.tasks import aside
from lane.users import redis_exchange
from lane.users.account import Account
from lane.users.book import Changes, Record, Used
from lane.users.rate_shares import Wants
from lane.users.unsent import Unsent

T = TypeVar("T")

MOST_EVENTS = 1000
"""Changes that are remembered for servers. One that has missed more reads everything again."""
KEPT = timedelta(days=400)
"""How long usage is kept."""
SHOWN_DAYS = 62
"""Days of usage that are shown."""
BATCH_KEPT = 7 * 86400
"""Seconds for which Redis knows which batches it has added. A server that is cut off for longer than that
could only count twice if the very last answer was lost."""
TIMEOUT = 5.0
"""Seconds for an answer."""

_ACCOUNTS, _SEQUENCE, _EVENTS, _SEEN = "lane:accounts", "lane:sequence", "lane:events", "lane:seen"
_COUNT = """
if redis.call('SET', KEYS[1], 1, 'NX', 'EX', ARGV[1]) then
  for i = 3, #ARGV, 3 do
    if redis.call('HEXISTS', KEYS[2], ARGV[i]) == 1 then
      for _, usage in ipairs({KEYS[3], KEYS[4]}) do
        redis.call('HINCRBY', usage, 'up ' .. ARGV[i], ARGV[i + 1])
        redis.call('HINCRBY', usage, 'down ' .. ARGV[i], ARGV[i + 2])
      end
    end
  end
  redis.call('EXPIRE', KEYS[3], ARGV[2])
  redis.call('EXPIRE', KEYS[4], ARGV[2])
end
"""

log = logging.getLogger("lane.users")

# Its connections wait as gevent does. This is the module's own name for the standard library's.
_library: Any = redis.connection
_library.socket = socket


class RedisBook:
    """See `lane.users.book.Book`. Raises UsageError for a URL that Redis does not know, and ConfigError.

    `folder` keeps counts that Redis has not taken: see `lane.users.unsent`.
    """

    def __init__(self, url: str, folder: Path | None = None) -> None:
        try:
            self._redis: Any = redis.Redis.from_url(
                url,
                socket_timeout=TIMEOUT,
                socket_connect_timeout=TIMEOUT,
                decode_responses=True,
                retry=Retry(NoBackoff(), 1),
            )
        except (ValueError, redis.RedisError):
            raise UsageError("malformed URL: expected redis://[USER:PASSWORD@]HOST[:PORT]/NUMBER") from None
        found = self._redis.connection_pool.connection_kwargs
        self._shown = f"redis at {found.get('host', found.get('path', 'localhost'))}"
        self._turn = BoundedSemaphore(1)  # the library's locks know nothing of greenlets
        try:
            self._unsent = Unsent(folder)
        except OSError as error:
            raise ConfigError(f"cannot read {error.filename}: {error.strerror}") from None
        self._saved = bool(self._unsent.batches)  # something is in the file
        self._throttle = Throttle()

    def close(self) -> None:
        """See `Book`. A greenlet that was killed in the middle of a call gets out of the library first."""
        with self._turn:  # no limit: each call has one
            self._redis.close()

    # The accounts.

    def get(self, name: str) -> Account | None:
        """See `Book`."""
        with self._explained():
            text = self._redis.hget(_ACCOUNTS, name)
        return None if text is None else self._account(text)

    def all(self) -> list[Account]:
        """See `Book`."""
        with self._explained():
            found = self._redis.hvals(_ACCOUNTS)
        return sorted(map(self._account, found), key=lambda account: account.created)

    def first(self) -> Account | None:
        """See `Book`."""
        return next(iter(self.all()), None)

    def add(self, account: Account) -> None:
        """See `Book`."""
        if self.get(account.name):
            raise UsageError(f"there is a user {account.name} already")
        self._edit(account.name, lambda _: account, new=True)

    def change(self, name: str, **fields: Any) -> Account:
        """See `Book`."""
        changed = self._edit(name, lambda account: replace(account, **fields))
        assert changed is not None
        return changed

    def remove(self, name: str) -> None:
        """See `Book`."""
        self._edit(name, lambda _: None)

    def kick(self, name: str) -> None:
        """See `Book`."""
        if self.get(name) is None:
            raise UsageError(f"there is no user {name}")
        with self._explained():
            self._redis.transaction(lambda pipe: self._tell(pipe, "kicked", name), _SEQUENCE)

    def _edit(
        self, name: str, edit: Callable[[Account], Account | None], *, new: bool = False
    ) -> Account | None:
        """Replace an account by what `edit` gives: None removes it."""
        result: list[Account | None] = []

        def work(pipe: Any) -> None:
            text = pipe.hget(_ACCOUNTS, name)
            if new and text is not None:
                raise UsageError(f"there is a user {name} already")
            if not new and text is None:
                raise UsageError(f"there is no user {name}")
            account = edit(self._account(text)) if text is not None else edit(Account(name, bytes(32)))
            result[:] = [account]
            self._tell(pipe, "changed", name)
            if account is None:
                pipe.hdel(_ACCOUNTS, name)
                pipe.hdel(_SEEN, name)
                for key in _all_usage():
                    pipe.hdel(key, f"up {name}", f"down {name}")
            else:
                pipe.hset(_ACCOUNTS, name, _text(account))

        with self._explained():
            self._redis.transaction(work, _ACCOUNTS, _SEQUENCE)
        return result[0]

    def _tell(self, pipe: Any, what: str, name: str) -> None:
        """Add a change. What `pipe` does after this is one transaction with it."""
        number = int(pipe.get(_SEQUENCE) or 0) + 1
        pipe.multi()
        pipe.set(_SEQUENCE, number)
        pipe.zadd(_EVENTS, {json.dumps([number, what, name]): number})
        pipe.zremrangebyrank(_EVENTS, 0, -MOST_EVENTS - 1)

    # What servers are told.

    def changes(self, since: int | None) -> Changes | None:
        """See `Book`."""
        with self._explained():
            last = int(self._redis.get(_SEQUENCE) or 0)
            if since == last:
                return None
            found: list[str] = []
            if since is not None and since < last:
                found = self._redis.zrangebyscore(_EVENTS, since + 1, last)
            if since is None or since > last or len(found) != last - since:
                accounts = self._redis.hgetall(_ACCOUNTS)
                return Changes(last, {name: self._account(one) for name, one in accounts.items()}, whole=True)
            events = [json.loads(one) for one in found]
            names = sorted({name for _, what, name in events if what == "changed"})
            texts = self._redis.hmget(_ACCOUNTS, names) if names else []
        changed = {
            name: None if text is None else self._account(text)
            for name, text in zip(names, texts, strict=True)
        }
        return Changes(last, changed, frozenset(name for _, what, name in events if what == "kicked"))

    # Usage.

    def count(self, used: Mapping[str, tuple[int, int]], seen: Iterable[str], now: float) -> None:
        """See `Book`. It keeps what it can't tell Redis yet, so nothing has to be given again."""
        self._unsent.add(_of_day(now), used)
        try:
            self._send()
            if names := [*seen]:
                with self._explained():
                    self._redis.hset(_SEEN, mapping=dict.fromkeys(names, now))
        except ConfigError as error:
            if (missed := self._throttle.allows("counts")) is not None:
                log.warning("what users have used waits (%s times): %s", missed + 1, error)
        if self._unsent.batches or self._saved:
            self._save()

    def _save(self) -> None:
        try:
            aside(get_hub().threadpool, self._unsent.save)
        except OSError as error:  # they stay in memory, and must not be given again
            if (missed := self._throttle.allows("file")) is not None:
                log.warning("what users have used is in memory only (%s times): %s", missed + 1, error)
        else:
            self._saved = bool(self._unsent.batches)

    def _send(self) -> None:
        batches = self._unsent.batches
        while batches:
            batch = batches[0]
            batch.sent = True
            keys = f"lane:batch:{batch.name}", _ACCOUNTS, batch.day, batch.day[:-3]
            counts = [text for user, pair in batch.used.items() for text in (user, *map(str, pair))]
            with self._explained():
                self._redis.eval(
                    _COUNT, len(keys), *keys, str(BATCH_KEPT), str(int(KEPT.total_seconds())), *counts
                )
            del batches[0]

    def restore(self, accounts: Iterable[Account], number: int) -> None:
        """Put back what Redis has lost: accounts that a server knows. `number`: that of the last change."""
        with self._explained():
            for account in accounts:
                self._redis.hsetnx(_ACCOUNTS, account.name, _text(account))
            if int(self._redis.get(_SEQUENCE) or 0) < number:
                self._redis.set(_SEQUENCE, number + 1)

    def exchange(self, process: str, wants: Wants) -> dict[str, Wants]:
        """See `lane.users.directory.Restores`."""
        with self._explained():
            return redis_exchange.exchange(self._redis, process, wants)

    def spent(self, now: float, names: Iterable[str]) -> dict[str, Used]:
        """See `Book`."""
        wanted = [*names]
        fields = [f"{way} {name}" for name in wanted for way in ("up", "down")]
        with self._explained():
            found = [int(one or 0) for one in self._redis.hmget(_month(now), fields)] if fields else []
        pairs = zip(wanted, found[::2], found[1::2], strict=True)
        return {name: Used(up, down) for name, up, down in pairs if up or down}

    def records(self, now: float, name: str | None = None) -> list[Record]:
        """See `Book`."""
        one = None if name is None else self.get(name)
        accounts = self.all() if name is None else [one] if one else []
        used = self.spent(now, [account.name for account in accounts])
        with self._explained():
            seen = self._redis.hgetall(_SEEN)
        return [
            Record(one, float(seen[one.name]) if one.name in seen else None, used.get(one.name, Used()))
            for one in accounts
        ]

    def days(self, name: str) -> dict[str, Used]:
        """See `Book`: the last SHOWN_DAYS."""
        today = datetime.now(UTC)
        days = [today - timedelta(days=back) for back in range(SHOWN_DAYS)]
        found = {}
        with self._explained():
            for day in reversed(days):
                up, down = self._redis.hmget(_of_day(day.timestamp()), [f"up {name}", f"down {name}"])
                if up or down:
                    found[day.strftime("%Y-%m-%d")] = Used(int(up or 0), int(down or 0))
        return found

    def forget(self, now: float) -> None:
        """See `Book`: Redis does that by itself."""

    def _account(self, text: str) -> Account:
        try:
            fields = json.loads(text)
            return Account(**{**fields, "key": decode(fields["key"])})
        except (ValueError, TypeError, LookupError, UsageError) as error:
            raise ConfigError(f"{self._shown} has an account that is none: {error}") from None

    @contextmanager
    def _explained(self) -> Iterator[None]:
        with self._turn:  # no limit: each call has one
            try:
                yield
            except (redis.RedisError, OSError) as error:
                raise ConfigError(f"{self._shown}: {error}") from None


def _text(account: Account) -> str:
    return json.dumps({**account.public(), "key": encode(account.key)})


def _of_day(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("lane:usage:%Y-%m-%d")


def _all_usage() -> set[str]:
    """The keys of all usage that is kept."""
    days = [datetime.now(UTC) - timedelta(days=back) for back in range(KEPT.days + 1)]
    return {key for day in days for key in (_of_day(day.timestamp()), _month(day.timestamp()))}


def _month(now: float) -> str:
    return _of_day(now)[:-3]
