"""Every state of a session with every cause: what follows, and what may not be."""

from itertools import product

import pytest

from lane.session.states import (
    ATTACHMENT,
    DIRECTION,
    LIFE,
    Attachment,
    Cause,
    Direction,
    InvalidTransition,
    Life,
)

FIN, CONSUMED, END = Cause.FIN, Cause.CONSUMED, Cause.END
ATTACH, RESUME, RECEIVED, DETACH = Cause.ATTACH, Cause.RESUME, Cause.RECEIVED, Cause.DETACH
CLOSE, ABORT, FAIL, HEARD, RELEASE = Cause.CLOSE, Cause.ABORT, Cause.FAIL, Cause.HEARD, Cause.RELEASE

TRANSITIONS = {**DIRECTION, **ATTACHMENT, **LIFE}
EXPECTED = {
    # One direction. A FIN is repeated after a move.
    (Direction.OPEN, FIN): Direction.FINISHED,
    (Direction.FINISHED, FIN): Direction.FINISHED,
    (Direction.CONSUMED, FIN): Direction.CONSUMED,
    (Direction.FINISHED, CONSUMED): Direction.CONSUMED,
    (Direction.CONSUMED, END): Direction.ENDED,
    # The stream that carries the session.
    (Attachment.DETACHED, ATTACH): Attachment.ATTACHED,
    (Attachment.DETACHED, RESUME): Attachment.RESUMING,
    (Attachment.DETACHED, DETACH): Attachment.DETACHED,
    (Attachment.RESUMING, RECEIVED): Attachment.ATTACHED,
    (Attachment.RESUMING, DETACH): Attachment.DETACHED,
    (Attachment.ATTACHED, DETACH): Attachment.DETACHED,
    # The session as a whole.
    (Life.OPEN, CLOSE): Life.CLOSING,
    (Life.OPEN, ABORT): Life.ABORTING,
    (Life.OPEN, FAIL): Life.ABORTED,
    (Life.CLOSING, FAIL): Life.ABORTED,
    (Life.CLOSING, RELEASE): Life.CLOSED,
    (Life.CLOSED, RELEASE): Life.CLOSED,
    (Life.ABORTING, HEARD): Life.ABORTED,
    (Life.ABORTING, FAIL): Life.ABORTING,
    (Life.ABORTING, RELEASE): Life.ABORTING,
    (Life.ABORTED, HEARD): Life.ABORTED,
    (Life.ABORTED, FAIL): Life.ABORTED,
    (Life.ABORTED, RELEASE): Life.ABORTED,
}


@pytest.mark.parametrize(("state", "cause"), list(product([*Direction, *Attachment, *Life], Cause)), ids=str)
def test_each_state_with_each_cause(state, cause):
    expected = EXPECTED.get((state, cause))
    if expected is not None:
        assert TRANSITIONS[state][cause] is expected
    else:
        with pytest.raises(InvalidTransition, match=f"{cause.name} in the state {state}"):
            TRANSITIONS[state][cause]


def test_the_table_has_no_other_transition():
    found = {(state, cause): to for state, causes in TRANSITIONS.items() for cause, to in causes.items()}
    assert found == EXPECTED


@pytest.mark.parametrize(("states", "first"), [(Direction, Direction.OPEN), (Life, Life.OPEN)])
def test_no_state_is_left_for_an_earlier_one(states, first):
    """A direction and a session only go on: what was said can't be taken back."""
    order, reached = [first], {first}
    for state in order:
        for to in TRANSITIONS[state].values():
            if to not in reached:
                reached.add(to)
                order.append(to)
    assert reached == set(states)
    for state in states:
        seen, left = set(), [to for to in TRANSITIONS[state].values() if to is not state]
        while left:
            to = left.pop()
            if to not in seen:
                seen.add(to)
                left += TRANSITIONS[to].values()
        assert state not in seen
