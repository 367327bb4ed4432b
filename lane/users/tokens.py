"""Finds the account of a token, in one look-up.

A client sends a token, which its key and the server's certificate give (see `lane.proto.hello`).
"""

from collections import OrderedDict
from collections.abc import Iterable, Iterator

from lane.fair import maybe_yield
from lane.proto.hello import token
from lane.users.account import Account

BINDINGS = 4
"""The number of bindings for which users' tokens are kept, on a server whose certificate changes."""


class Tokens:
    """The accounts of a server, by name and by token.

    A server's certificate may change while older carriers still have the old binding. So the tokens for a
    binding are computed at its first look-up, and kept for the newest `BINDINGS` bindings.
    """

    def __init__(self, accounts: Iterable[Account] = ()) -> None:
        self._accounts = {account.name: account for account in accounts}
        # A dict does not compare in constant time. That is safe here: it compares the output of an HMAC, and
        # nobody without the key can approach a wanted value byte by byte.
        self._tokens: OrderedDict[bytes, dict[bytes, str]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._accounts)

    def __iter__(self) -> Iterator[Account]:
        return iter([*self._accounts.values()])

    def get(self, name: str) -> Account | None:
        """The account called `name`."""
        return self._accounts.get(name)

    def find(self, proof: bytes, binding: bytes) -> Account | None:
        """The account whose key gives `proof` on a carrier with `binding`; None if there is none."""
        names = self._tokens.get(binding)
        if names is None:
            names = self._computed(binding)
        name = names.get(proof)
        return None if name is None else self._accounts.get(name)

    def put(self, account: Account) -> None:
        """Add an account, or replace the one with its name."""
        before = self._accounts.get(account.name)
        if before is None or before.key != account.key:
            self.remove(account.name)
            for binding, names in self._tokens.items():
                names[token(account.key, binding)] = account.name
        self._accounts[account.name] = account

    def remove(self, name: str) -> None:
        """Drop the account called `name`, if it is there."""
        account = self._accounts.pop(name, None)
        if account is not None:
            for binding, names in self._tokens.items():
                names.pop(token(account.key, binding), None)

    def prepare(self, binding: bytes) -> None:
        """Compute the tokens for `binding` before anybody asks, with turns for other greenlets."""
        if binding not in self._tokens:
            fresh = Tokens()
            fresh._tokens[binding] = {}
            for account in self:
                fresh.put(account)
                maybe_yield()
            # Accounts may have changed meanwhile.
            for account in self:
                if fresh.get(account.name) is not account:
                    fresh.put(account)
            for name in [one.name for one in fresh if one.name not in self._accounts]:
                fresh.remove(name)
            self._keep(binding, fresh._tokens[binding])

    def _computed(self, binding: bytes) -> dict[bytes, str]:
        names = {token(account.key, binding): account.name for account in self._accounts.values()}
        self._keep(binding, names)
        return names

    def _keep(self, binding: bytes, names: dict[bytes, str]) -> None:
        self._tokens[binding] = names
        if len(self._tokens) > BINDINGS:
            self._tokens.popitem(last=False)
