"""Public names for what is private: both name the same thing, and overriding one overrides the other."""

from typing import ClassVar

import pytest
from aioquic.quic.configuration import QuicConfiguration
from aioquic.quic.connection import QuicConnection
from lane_quic.internals.aliases import Aliased, public
from lane_quic.internals.connection import Connection


class Theirs:
    def __init__(self):
        self._count = 1
        self.__hidden = 2

    def _step(self, by):
        self._count += by

    def run(self):
        self._step(self.__hidden)


class Ours(Aliased, Theirs):
    ALIASES: ClassVar = {"count": "_count", "hidden": "_Theirs__hidden", "step": "_step"}
    __slots__ = ("_Theirs__hidden", "_count")


class Doubled(Ours):
    def step(self, by):
        super().step(2 * by)


def test_both_names_are_one_thing():
    one = Ours()
    assert (one.count, one.hidden, vars(one)) == (1, 2, {})
    one.hidden = 5
    one.run()
    assert one.count == one._count == 6


def test_what_overrides_a_public_name_is_called_by_the_private_one():
    one = Doubled()
    one.run()
    assert one.count == 5
    assert Ours().step.__func__ is Theirs._step


@pytest.mark.parametrize(
    ("name", "ours"),
    [("_a_b", "a_b"), ("_QuicConnection__frame_handlers", "frame_handlers"), ("plain", "plain")],
)
def test_public_names(name, ours):
    assert public(name) == ours


def test_no_public_name_is_one_of_aioquics():
    blank = QuicConnection(configuration=QuicConfiguration())
    assert not [name for name in Connection.ALIASES if hasattr(blank, name)]
