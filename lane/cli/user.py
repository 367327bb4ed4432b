"""`lane user` and `lane kick`: they change the accounts of a server, whether it runs or not.

They write to where the accounts are kept, and a running server follows (`lane.users.directory`). Only who is
online now is asked of the server itself.
"""

import io
import json
import os
import secrets
from contextlib import closing, suppress
from time import time
from typing import Any

import segno

from lane import state
from lane.address import Address
from lane.asking import ask
from lane.certs import own_identity
from lane.cli.link import only_here
from lane.cli.user_tables import days_table, details, users_table
from lane.config import UserConfig
from lane.errors import ConfigError, Unreachable, UsageError
from lane.link import KEY_SIZE, Link
from lane.meeting import server_path
from lane.net.sockets import own_address
from lane.text import complain
from lane.users.account import Account
from lane.users.book import Book, Record
from lane.users.kinds import LOCAL, REDIS, open_redis
from lane.users.presence import digest

Online = dict[str, tuple[int, int]]
"""Sessions and devices of those who are online, by `digest`."""


def run(config: UserConfig, plugins: object) -> int:
    """Do what the command says. Raises UsageError, ConfigError, Unreachable."""
    with closing(open_book(config)) as book:
        _COMMANDS[config.command](config, book)
    return 0


def open_book(config: UserConfig) -> Book:
    """The accounts that can be changed here. Raises ConfigError if they are elsewhere."""
    if config.accounts == LOCAL:
        return state.open_accounts(config.state_dir)
    if config.accounts.startswith(REDIS):
        return open_redis(config.accounts)
    raise ConfigError(f"the accounts of this server are elsewhere: {config.accounts} (--accounts)")


def _add(config: UserConfig, book: Book) -> None:
    link_of = _links(config)
    account = Account(config.name, secrets.token_bytes(KEY_SIZE), created=time(), **config.changes)
    book.add(account)
    _give(config, account, link_of(account), qr=True)


def _link(config: UserConfig, book: Book) -> None:
    account = _need(book, config.name)
    _give(config, account, _links(config)(account), qr=config.qr)


def _rotate(config: UserConfig, book: Book) -> None:
    _need(book, config.name)
    link_of = _links(config)
    account = book.change(config.name, key=secrets.token_bytes(KEY_SIZE))
    _give(config, account, link_of(account), qr=config.qr)


def _set(config: UserConfig, book: Book) -> None:
    account = book.change(config.name, **config.changes)
    _say(config, account, f"{config.name}: changed")


def _disable(config: UserConfig, book: Book) -> None:
    _say(config, book.change(config.name, disabled=True), f"{config.name}: disabled")


def _enable(config: UserConfig, book: Book) -> None:
    _say(config, book.change(config.name, disabled=False), f"{config.name}: enabled")


def _remove(config: UserConfig, book: Book) -> None:
    account = _need(book, config.name)
    book.remove(config.name)
    _say(config, account, f"{config.name}: removed")


def _show(config: UserConfig, book: Book) -> None:
    records = book.records(time(), config.name)
    if not records:
        raise UsageError(f"there is no user {config.name}")
    record, online, days = records[0], _online(config), book.days(config.name)
    if config.json:
        by_day = {day: {"up": used.up, "down": used.down} for day, used in days.items()}
        print(json.dumps({**_as_json(record, online), "days": by_day}))
    else:
        print(details(record, _presence(record, online)))
        if days:
            print(days_table(days))


def _list(config: UserConfig, book: Book) -> None:
    records, online = book.records(time()), _online(config)
    if config.json:
        print(json.dumps([_as_json(record, online) for record in records]))
    elif not records:
        print("no users: lane user add NAME makes one")
    else:
        print(users_table([(record, _presence(record, online)) for record in records]))


def _kick(config: UserConfig, book: Book) -> None:
    account = _need(book, config.name)
    # A server that does not run has nobody to send away. One that shares its accounts may be elsewhere.
    online = _ask_online(config) if config.accounts == LOCAL else _online(config) or {}
    sessions, devices = online.get(str(digest(config.name)), (0, 0))
    book.kick(config.name)
    if config.json:
        print(json.dumps({"name": account.name, "sessions": sessions, "devices": devices}))
    elif sessions or devices:
        print(f"{config.name}: sent away, with {sessions} sessions of {devices} devices")
    else:
        print(f"{config.name} is not connected")


_COMMANDS = {
    "user add": _add,
    "user list": _list,
    "user show": _show,
    "user set": _set,
    "user disable": _disable,
    "user enable": _enable,
    "user remove": _remove,
    "user rotate-key": _rotate,
    "user link": _link,
    "kick": _kick,
}


def _need(book: Book, name: str) -> Account:
    account = book.get(name)
    if account is None:
        raise UsageError(f"there is no user {name}")
    return account


# What is printed.


def _say(config: UserConfig, account: Account, text: str) -> None:
    print(json.dumps(account.public()) if config.json else text)


def _give(config: UserConfig, account: Account, link: str, *, qr: bool) -> None:
    """Print a link, and its QR code if wanted."""
    if config.png is not None:
        _write_png(config, link)
    if config.json:
        print(json.dumps({**account.public(), "link": link}))
        return
    print(link)
    if qr:
        text = io.StringIO()
        segno.make_qr(link, error="l").terminal(text, compact=True)
        with suppress(UnicodeEncodeError):  # a terminal without such characters
            print(text.getvalue(), end="")


def _write_png(config: UserConfig, link: str) -> None:
    assert config.png is not None
    data = io.BytesIO()
    segno.make_qr(link, error="l").save(data, kind="png", scale=8)
    try:
        descriptor = os.open(config.png, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, 0o600)
            file.write(data.getvalue())
    except OSError as error:
        raise ConfigError(f"cannot write {config.png}: {error.strerror}") from None


def _links(config: UserConfig) -> Any:
    """A function that makes the link of an account. Raises ConfigError before anything is changed."""
    own = own_identity(config.cert, config.cert_key)
    pin = (own or state.read_identity(config.state_dir)).binding
    assert config.listen is not None
    host = config.host
    if host is None:
        host = Address(config.listen.host or _guess(), 0)
        complain(f"lane: the link leads to {host.host}: --host is the name or address that clients use")
    elif warning := only_here(host.host):
        complain(f"lane: {warning}")
    address = host if host.port else host._replace(port=config.listen.port)
    if not address.port:
        raise UsageError(f"--host: {address.host} needs a port: HOST:PORT")
    return lambda account: str(Link(account.key, address, pin, config.carried))


def _guess() -> str:
    try:
        return own_address()
    except OSError:
        return "127.0.0.1"


# Who is online.


def _ask_online(config: UserConfig) -> Online:
    """Ask the running server. Raises Unreachable if there is none."""
    path = server_path(config.state_dir)
    (answer,) = ask(path, who="server", named=True, what="online")
    found = answer.get("online")
    return found if isinstance(found, dict) else {}


def _online(config: UserConfig) -> Online | None:
    """Who is online; None if no server runs here."""
    try:
        return _ask_online(config)
    except Unreachable:
        return None


def _presence(record: Record, online: Online | None) -> tuple[int, int] | None:
    return None if online is None else online.get(str(digest(record.account.name)), (0, 0))


def _as_json(record: Record, online: Online | None) -> dict[str, Any]:
    there = _presence(record, online)
    return {
        **record.account.public(),
        "last_seen": record.seen,
        "up": record.used.up,
        "down": record.used.down,
        "online": there and there[1],
        "online_sessions": there and there[0],
    }
