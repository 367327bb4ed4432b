"""The JSON API for the accounts of a server: `lane/admin/openapi.json` describes it, and limits its values.

Changes go to where the accounts are kept (`lane.users.book`), as those of `lane user` do, and the running
server follows. That place may be a disk, so it is asked in a thread.
"""

import json
import secrets
from collections.abc import Callable, Mapping
from functools import cache, partial
from http import HTTPStatus
from pathlib import Path
from time import time
from typing import Any, TypeVar

from gevent.threadpool import ThreadPool

from lane.admin.everyone import Everyone
from lane.admin.web import Refusal, Request, Response, Route, Routes
from lane.errors import ConfigError, UsageError
from lane.link import KEY_SIZE
from lane.tasks import aside
from lane.text import printable
from lane.users.account import Account
from lane.users.book import Book, Record

T = TypeVar("T")
JSON = "application/json"
_NOBODY = "there is no such user"
_TYPES: dict[str, Callable[[Any], bool]] = {
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "number": lambda value: isinstance(value, int | float) and not isinstance(value, bool),
    "integer": lambda value: isinstance(value, int) and not isinstance(value, bool),
}


class Accounts:
    """The API. `book` has the accounts. `link_of` makes the link of one. Call `close` at the end."""

    def __init__(self, book: Book, link_of: Callable[[Account], str], everyone: Everyone) -> None:
        self._book = book
        self._link_of = link_of
        self._everyone = everyone
        self._room = ThreadPool(1)

    @property
    def routes(self) -> Routes:
        """All paths. Each needs the secret."""
        return {
            ("GET", "/api/openapi.json"): Route(_describe),
            ("GET", "/api/users"): Route(self._list),
            ("POST", "/api/users"): Route(self._add),
            ("GET", "/api/users/*"): Route(self._show),
            ("PATCH", "/api/users/*"): Route(self._change),
            ("DELETE", "/api/users/*"): Route(self._remove),
            ("GET", "/api/users/*/link"): Route(self._link),
            ("POST", "/api/users/*/rotate-key"): Route(self._rotate),
            ("POST", "/api/users/*/kick"): Route(self._kick),
        }

    def close(self) -> None:
        """Close the book."""
        self._room.spawn(self._book.close)
        self._room.join()  # no limit: each use of the book has one
        self._room.kill()  # no limit: nothing runs there any more

    def _list(self, request: Request) -> Response:
        online = self._online()
        return _json([_user(record, online) for record in self._ask(self._book.records, time())])

    def _add(self, request: Request) -> Response:
        values = checked(request.body, "NewUser")
        name = values["name"]
        try:
            account = Account(key=secrets.token_bytes(KEY_SIZE), created=time(), **values)
        except UsageError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
        if self._ask(self._book.get, name) is not None:
            raise Refusal(HTTPStatus.CONFLICT, "there is a user of that name already")
        try:
            self._ask(self._book.add, account)
        except UsageError as error:  # somebody else was faster
            raise Refusal(HTTPStatus.CONFLICT, str(error)) from None
        return self._linked(account, HTTPStatus.CREATED)

    def _show(self, request: Request) -> Response:
        record = self._record(request)
        days = self._ask(self._book.days, record.account.name)
        by_day = {day: {"up": used.up, "down": used.down} for day, used in days.items()}
        return _json({**_user(record, self._online()), "days": by_day})

    def _change(self, request: Request) -> Response:
        values, name = checked(request.body, "Changes"), self._record(request).account.name
        try:
            self._ask(lambda: self._book.change(name, **values))
        except UsageError as error:
            raise Refusal(HTTPStatus.BAD_REQUEST, str(error)) from None
        return _json(_user(self._record(request), self._online()))

    def _remove(self, request: Request) -> Response:
        self._of_user(self._book.remove, self._record(request).account.name)
        return Response(b"", HTTPStatus.NO_CONTENT)

    def _link(self, request: Request) -> Response:
        return self._linked(self._record(request).account)

    def _rotate(self, request: Request) -> Response:
        name, key = self._record(request).account.name, secrets.token_bytes(KEY_SIZE)
        return self._linked(self._of_user(lambda: self._book.change(name, key=key)))

    def _kick(self, request: Request) -> Response:
        self._of_user(self._book.kick, self._record(request).account.name)
        return Response(b"", HTTPStatus.NO_CONTENT)

    def _linked(self, account: Account, status: int = HTTPStatus.OK) -> Response:
        (record,) = self._ask(self._book.records, time(), account.name)
        return _json({**_user(record, self._online()), "link": self._link_of(account)}, status)

    def _record(self, request: Request) -> Record:
        """The user that a request names. Raises Refusal."""
        found = self._ask(self._book.records, time(), request.parameters[0])
        if not found:
            raise Refusal(HTTPStatus.NOT_FOUND, _NOBODY)
        return found[0]

    def _online(self) -> Mapping[str, set[str]]:
        return self._everyone.total().online

    def _of_user(self, call: Callable[..., T], *arguments: Any) -> T:
        """As `_ask`, for a user who may have been removed just now."""
        try:
            return self._ask(call, *arguments)
        except UsageError:
            raise Refusal(HTTPStatus.NOT_FOUND, _NOBODY) from None

    def _ask(self, call: Callable[..., T], *arguments: Any) -> T:
        """Call the book in its thread, and wait. Raises Refusal if the book fails."""
        try:
            return aside(self._room, partial(call, *arguments))
        except ConfigError as error:
            raise Refusal(HTTPStatus.SERVICE_UNAVAILABLE, printable(str(error))) from None


def _user(record: Record, online: Mapping[str, set[str]]) -> dict[str, Any]:
    account = record.account
    used = {"last_seen": record.seen, "up": record.used.up, "down": record.used.down}
    return {**account.public(), **used, "online": len(online.get(account.name, ()))}


def checked(body: bytes, schema: str) -> dict[str, Any]:
    """The values of a JSON object that keeps to a schema of the file. Raises Refusal."""
    try:
        values = json.loads(body, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise Refusal(HTTPStatus.BAD_REQUEST, "expected a JSON object") from None
    rules = _file()["components"]["schemas"]
    known, needed = rules[schema]["properties"], rules[schema].get("required", ())
    if not isinstance(values, dict) or any(name not in values for name in needed):
        raise Refusal(
            HTTPStatus.BAD_REQUEST, f"expected a JSON object{''.join(map(' with {}'.format, needed))}"
        )
    for name, value in values.items():
        if name not in known:
            raise Refusal(HTTPStatus.BAD_REQUEST, f"unknown: {json.dumps(name[:64])}")
        rule = known[name] if "$ref" not in known[name] else rules["Changes"]["properties"][name]
        if not _keeps(value, rule):
            raise Refusal(HTTPStatus.BAD_REQUEST, f"{name}: expected {_words(rule)}")
    return values


def _keeps(value: Any, rule: Mapping[str, Any]) -> bool:
    types = [rule["type"]] if isinstance(rule["type"], str) else rule["type"]
    if not any(_TYPES[one](value) for one in types):
        return False
    if isinstance(value, str):
        return bool(rule.get("minLength", 0) <= len(value) <= rule["maxLength"])
    return value is None or "minimum" not in rule or bool(rule["minimum"] <= value <= rule["maximum"])


def _words(rule: Mapping[str, Any]) -> str:
    """What a rule wants, for people."""
    types = rule["type"] if isinstance(rule["type"], str) else " or ".join(rule["type"])
    if "minimum" in rule:
        return f"{types}, {rule['minimum']} to {rule['maximum']}"
    return f"{types} of at most {rule['maxLength']} characters" if "maxLength" in rule else types


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _json(value: Any, status: int = HTTPStatus.OK) -> Response:
    return Response(json.dumps(value).encode(), status, JSON)


def _describe(request: Request) -> Response:
    return _json(_file())


@cache
def _file() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(Path(__file__).with_name("openapi.json").read_text())
    return found
