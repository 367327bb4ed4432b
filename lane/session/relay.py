"""The relay: two pumps between a local socket and a session, until both directions have ended.

Most proxies close both directions at the first end of data, and lose what a half-closing program was
waiting for. Here each direction ends by itself, and an error in one aborts both, visibly: a connection
that broke never looks finished to the other side.
"""

import gevent

from lane.errors import Closed, LaneError
from lane.proto.frames import MAX_PAYLOAD
from lane.session.fair import Turn
from lane.session.session import Session
from lane.stream import Stream


def relay(local: Stream, session: Session, early: bytes = b"") -> LaneError | None:
    """Move bytes both ways until the end: None, or the error that it ended with.

    `early` goes to the session before anything else. Both sides are closed or reset afterwards.
    """
    errors: list[LaneError] = []

    def abort(error: LaneError) -> None:
        errors.append(error)
        session.reset()
        local.reset()

    def send() -> None:
        try:
            _send(local, session, early)
        except LaneError as error:
            if session.error is None:
                abort(error)
            else:  # what came before the error is still to be delivered
                errors.append(error)

    session.cut = local.reset
    sender = gevent.spawn(send)
    try:
        _receive(local, session)
        sender.join()
    except LaneError as error:
        if session.error is None:  # the local side broke; what it said before that is passed on
            sender.join()
        abort(error)
        sender.join()
    finally:
        if not sender.dead:  # this greenlet was killed
            sender.kill(block=False)
            abort(Closed("the relay was ended"))
    if errors:
        abort(errors[0])
    else:
        local.close()
        session.close()
    return errors[0] if errors else session.error


def _send(local: Stream, session: Session, early: bytes) -> None:
    turn = Turn()
    session.sendall(early)
    early = b""
    while data := local.recv(MAX_PAYLOAD):
        session.sendall(data)
        data = b""  # a pump that waits holds nothing
        turn.check()
    session.finish()


def _receive(local: Stream, session: Session) -> None:
    turn = Turn()
    while data := session.recv():
        local.sendall(data)
        data = b""
        turn.check()
    local.finish()
