"""The file `keys`, in which servers of earlier versions had their users: lines of `NAME KEY`.

A server takes its users over into `lane.users.store` when it finds the file, once.
"""

import secrets
from pathlib import Path
from time import time

from lane.errors import ConfigError
from lane.files import read, text_of
from lane.link import KEY_SIZE, decode, unwrapped
from lane.users.account import Account

MAX_USERS = 10_000
"""The most users in such a file."""
MAX_FILE = 4 * 1024 * 1024
"""The largest size of the file, bytes."""


def read_keys(path: Path) -> list[Account]:
    """The users in the file `path`, in its order. Raises ConfigError."""
    return parse_keys(read(path, MAX_FILE, closed=0o077), path)


def new_user() -> Account:
    """The first user of a new server."""
    return Account("default", secrets.token_bytes(KEY_SIZE), created=time())


def parse_keys(data: bytes, path: Path) -> list[Account]:
    """The users in the content of the file `path`. Raises ConfigError."""
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
    now = time()
    return [Account(name, key, created=now) for name, key in users.items()]
