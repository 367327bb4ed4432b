"""Exit statuses: each error that ends the program has its own, and no other error has one."""

import pytest

from lane import errors
from lane.cli.exits import ENDS, STATUSES, exit_status


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (errors.Fatal, 1),
        (errors.UsageError, 2),
        (errors.Unreachable, 69),
        (errors.TurnedAway, 69),
        (errors.Refused, 77),
        (errors.ConfigError, 78),
    ],
)
def test_the_status_of_an_error(kind, status):
    assert exit_status(kind("why")) == status


def test_a_child_comes_before_its_parent():
    kinds = list(STATUSES)
    for number, kind in enumerate(kinds):
        assert not any(issubclass(later, kind) for later in kinds[number + 1 :])


def test_what_costs_one_connection_ends_no_program():
    assert not issubclass(errors.Closed, ENDS)
    assert not issubclass(errors.TargetError, ENDS)
    assert not issubclass(errors.ProtocolError, ENDS)
    assert not issubclass(errors.Unreachable, errors.Fatal)
    assert not issubclass(errors.Refused, errors.Fatal)
