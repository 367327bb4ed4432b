"""The keys of a server's users, and the look-up of the user who proves one.

A client sends a token, which its key and the server's certificate give (see `lane.proto.hello`).
"""

import secrets
from collections.abc import ItemsView
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Self

from lane.errors import ConfigError
from lane.files import text_of
from lane.link import KEY_SIZE, decode, encode, unwrapped
from lane.proto.hello import token

MAX_USERS = 10_000
"""The most users of a server."""
BINDINGS = 4
"""The number of bindings for which users' tokens are kept, on a server whose certificate changes."""


@dataclass(frozen=True, slots=True)
class Keys:
    """The users of a server and their keys: lines of `NAME KEY` in a file that the operator may edit."""

    users: dict[str, bytes] = field(repr=False)

    @classmethod
    def parse(cls, data: bytes, path: Path) -> Self:
        """Parse the content of the file `path`. Raises ConfigError."""
        return cls(_parse_keys(data, path))

    @property
    def first(self) -> tuple[str, bytes]:
        """The first user and key. Their link is printed."""
        return next(iter(self.users.items()))

    def items(self) -> ItemsView[str, bytes]:
        """All users and keys, in the order of the file."""
        return self.users.items()


class KeyRing:
    """Finds the user of a token, in one look-up.

    A server's certificate may change while older carriers still have the old binding. So the tokens for a
    binding are computed at its first look-up, and kept for the newest `BINDINGS` bindings.
    """

    def __init__(self, keys: Keys) -> None:
        # A dict does not compare in constant time. That is safe here: it compares the output of an HMAC, and
        # nobody without the key can approach a wanted value byte by byte.
        self._users = lru_cache(BINDINGS)(
            lambda binding: {token(key, binding): name for name, key in keys.items()}
        )

    def lookup(self, token: bytes, binding: bytes) -> str | None:
        """The user whose key gives `token` on a carrier with `binding`; None if there is none."""
        return self._users(binding).get(token)


def new_keys() -> bytes:
    """The content of a new key file with one user, `default`."""
    return f"default {encode(secrets.token_bytes(KEY_SIZE))}\n".encode()


def _parse_keys(data: bytes, path: Path) -> dict[str, bytes]:
    users: dict[str, bytes] = {}
    keys: set[bytes] = set()
    for number, line in enumerate(text_of(data, path).split("\n"), start=1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        where = f"{path}, line {number}"
        if len(words) != 2 or not words[0].isprintable() or len(words[0]) > 64:
            raise ConfigError(f"{where}: expected NAME KEY")
        name, text = words
        try:
            key = decode(unwrapped(text))
        except ValueError as error:
            raise ConfigError(f"{where}: the key is {error}") from None
        if name in users or key in keys:
            raise ConfigError(f"{where}: that name or key is there already")
        if len(users) == MAX_USERS:
            raise ConfigError(f"{where}: more than {MAX_USERS} users")
        users[name] = key
        keys.add(key)
    if not users:
        raise ConfigError(f"no key in {path}")
    return users
