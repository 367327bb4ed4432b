"""What the processes of a server ask each other for: sessions, and ports of reverse forwards.

A client may come back to another process than the one that has its session: its address has changed, or the
server was upgraded. That process asks the others, takes the session from the one that has it, and answers the
client. Each process has a `Desk` that answers; `Others` asks. Nobody but the user of the server, and root,
may ask.

    {"take": [USER, SESSION, GENERATION]}   the session, for good
    {"lend": [HOST, PORT, USER]}            another descriptor of a port
    {"all": True}                           all sessions, one message each; then {"end": True}
    {"succeed": FORMAT}                     the place of this process: see `lane.handover.retirement`
    {"keep": ROWS} and descriptors          idle sessions, for this process: see `lane.server.frozen`

The answer is one of

    {"parcel": STATE} and descriptors       a session (`lane.server.hosted`)
    {"port": True} and a descriptor
    {"refusal": [STATUS, TEXT]}             the session has ended, or a newer request was here
    {"elsewhere": True}                     it went to yet another process
    {"unknown": True}
    {"kept": NUMBER}
"""

import logging
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol

import gevent
from gevent import socket as gsocket
from gevent.pool import Pool

from lane.address import Address
from lane.errors import Closed, LaneError, ProtocolError, Status, TargetError
from lane.handover import channel
from lane.net.accept import Acceptor
from lane.server.frozen import Frozen
from lane.server.resumption import Key
from lane.session.parcel import Elsewhere, Parcel, unpack
from lane.supervisor import report, supervise

ANSWER_TIME = 60.0
"""Seconds for one answer, which takes milliseconds. One that does not come costs the session that it has. So
this is longer than a process may stand still on a busy machine, and than both limits on the other side."""
GIVE_TIME = 30.0
"""Seconds for one message to be taken."""
ROUNDS = 3
"""How often all others are asked for a session that is on its way between two of them."""
BREATH = 0.02
"""Seconds between two rounds."""
MOST_AT_ONCE = 64
"""Processes that are answered at once."""

log = logging.getLogger("lane.handover")


class Sessions(Protocol):
    """What a desk needs of the sessions of its process: see `lane.server.requests`."""

    def hand_over(self, key: Key, generation: int) -> Parcel | None:
        """Stop a session here."""


class Retires(Protocol):
    """What makes room for another process: see `lane.handover.retirement`."""

    def begin(self, sock: Any, wanted: int) -> None:
        """Retire in favour of the process at the other end of `sock`."""

    def surrender(self) -> Iterator[Parcel]:
        """Stop all sessions."""


class Undecided(Closed):
    """Nobody knows whether another process has what it was sent."""


class Desk:
    """Answers at `listener`, a socket of `channel.listen`. `lend` lends ports, `retiring` makes room.

    `keep` keeps idle sessions, if this process can.
    """

    def __init__(
        self,
        listener: Any,
        sessions: Sessions,
        lend: Callable[[Address, str], int | None],
        retiring: Retires,
        keep: Callable[[list[Frozen]], None] | None = None,
    ) -> None:
        self._keep = keep
        self._sock = gsocket.socket(fileno=listener.detach())
        self._sessions = sessions
        self._lend = lend
        self._retiring = retiring
        self._pool = Pool(MOST_AT_ONCE)
        self._giving: set[Any] = set()  # the greenlets that send a session
        self._loop = supervise("the desk for other processes", self._accept)

    def close(self) -> None:
        """Answer no more, once the sessions that are on their way have arrived. Idempotent."""
        self._loop.kill(block=False)
        self._sock.close()
        gevent.joinall(list(self._giving), timeout=ANSWER_TIME)

    def _accept(self) -> None:
        acceptor = Acceptor(self._sock, "other processes of the server")
        while True:
            try:
                sock, _ = acceptor.accept()
            except Closed:
                return
            self._pool.spawn(self._serve, sock)  # no limit: each message has GIVE_TIME

    def _serve(self, sock: Any) -> None:
        with sock:
            try:
                if channel.trusted(sock):
                    self._answer(sock)
            except (OSError, LaneError, gevent.Timeout) as error:
                log.debug("another process was not answered: %s", error)
            except Exception as error:
                report("an answer to another process", error)

    def _answer(self, sock: Any) -> None:
        with gevent.Timeout(GIVE_TIME):
            question, descriptors = channel.receive(sock)
        match question:
            case {"keep": [*rows]} if self._keep is not None and (sessions := _frozen(rows, descriptors)):
                # The answer leaves before anything can happen to one of them.
                self._keep(sessions)
                _send(sock, {"kept": len(rows)})
                return
        for one in descriptors:
            os.close(one)
        match question:
            case {"take": [str() as user, bytes() as session, int() as generation]}:
                self._take(sock, (user, session), generation)
            case {"lend": [str() as host, int() as port, str() as user]}:
                found = self._lend(Address(host, port), user)
                if found is None:
                    _send(sock, {"unknown": True})
                else:
                    try:
                        _send(sock, {"port": True}, [found])
                    finally:
                        os.close(found)
            case {"succeed": int() as wanted}:
                self._retiring.begin(sock, wanted)
            case {"all": True}:
                for parcel in self._retiring.surrender():
                    _deliver(sock, parcel)
                _send(sock, {"end": True})
            case _:
                raise ProtocolError("another process asks for what is not known here")

    def _take(self, sock: Any, key: Key, generation: int) -> None:
        self._giving.add(giving := gevent.getcurrent())
        try:
            parcel = self._sessions.hand_over(key, generation)
            if parcel is None:
                _send(sock, {"unknown": True})
            else:
                _deliver(sock, parcel)
        except TargetError as error:
            _send(sock, {"refusal": [int(error.status), str(error)]})
        except Elsewhere:
            _send(sock, {"elsewhere": True})
        finally:
            self._giving.discard(giving)


def _send(sock: Any, value: Any, descriptors: list[int] | None = None) -> None:
    with gevent.Timeout(GIVE_TIME):
        channel.send(sock, value, descriptors)


def _deliver(sock: Any, parcel: Parcel) -> None:
    """Send a session. If nobody takes it, it has ended, and its target gets a reset."""
    try:
        _send(sock, {"parcel": parcel.state}, parcel.descriptors)
    finally:
        parcel.close()


def _never(_: str) -> bool:
    return False


def _frozen(rows: list[Any], descriptors: list[int]) -> list[Frozen]:
    """The sessions of a message; none if it is not as `keep` makes it, or if one of them could not go on."""
    found = []
    for row, descriptor in zip(rows, descriptors, strict=False):
        match row:
            case [str() as user, bytes() as session, int() as generation, str() as peer, bytes() as state]:
                try:
                    unpack(state)
                except ProtocolError:
                    return []
                found.append(Frozen((user, session), generation, peer, state, descriptor))
    return found if len(found) == len(rows) == len(descriptors) else []


def keep(name: str, sessions: Sequence[Frozen]) -> None:
    """Have the process with the desk `name` keep idle sessions, as many as a message has descriptors.

    The descriptors stay open here. Raises OSError or LaneError if it has not kept them, and Undecided if it
    does not answer.
    """
    rows = [[*one.key, one.generation, one.peer, one.state] for one in sessions]
    silence = Undecided("the new process does not answer")
    with gevent.Timeout(ANSWER_TIME, silence), channel.connect(name) as sock:
        channel.send(sock, {"keep": rows}, [one.descriptor for one in sessions])
        answer, _ = channel.receive(sock)
    if answer != {"kept": len(rows)}:
        raise ProtocolError("the new process does not keep sessions")


class Others:
    """The other processes of this server, as the names of their sockets.

    `departed` tells of a name that nobody answers whether its process has ended in good order.
    """

    def __init__(self, names: list[str], departed: Callable[[str], bool] = _never) -> None:
        self.names = names
        """May be replaced at any time."""
        self._departed = departed

    def take(self, key: Key, generation: int) -> Parcel | None:
        """Take a session from whoever has it. None if nobody knows it.

        Raises TargetError if it has ended, or if it is not known where it is.
        """
        for _ in range(ROUNDS):
            refusal, elsewhere = None, False
            for value, descriptors in self._ask({"take": [*key, generation]}):
                match value:
                    case {"parcel": dict() as state}:
                        return Parcel(state, descriptors)
                    case {"refusal": [int() as status, str() as text]}:
                        refusal = refusal or TargetError(Status(status), text)
                    case {"silent": True}:
                        refusal = TargetError(Status.TTL_EXPIRED, "a process of the server gave no answer")
                    case {"elsewhere": True}:
                        elsewhere = True
            if refusal is not None:
                raise refusal
            if not elsewhere:
                return None
            gevent.sleep(BREATH)
        raise TargetError(Status.TTL_EXPIRED, "the session is on its way between two processes of the server")

    def borrow(self, where: Address, user: str) -> int | None:
        """A descriptor of a port that another process has open for the user; None if none has."""
        found = [one for _, descriptors in self._ask({"lend": [*where, user]}) for one in descriptors]
        for one in found[1:]:
            os.close(one)
        return found[0] if found else None

    def _ask(self, question: Any) -> Iterator[channel.Message]:
        """The answers of all that are there, as they come."""
        asking = [gevent.spawn(self._ask_one, name, question) for name in self.names]
        for one in gevent.iwait(asking):  # no limit: each has its own
            if one.value is not None:
                yield one.value

    def _ask_one(self, name: str, question: Any) -> channel.Message | None:
        """The answer of one process, or that it was silent; None if it has left nothing behind.

        One that was killed is silent: what it had begun must not begin again.
        """
        try:
            with gevent.Timeout(ANSWER_TIME), channel.connect(name) as sock:
                channel.send(sock, question)
                return channel.receive(sock)
        except (OSError, LaneError, gevent.Timeout) as error:
            if isinstance(error, ConnectionRefusedError) and (self._departed(name) or name not in self.names):
                return None
            return {"silent": True}, []


def take_all(name: str) -> Iterator[Parcel]:
    """All sessions of another process, for a caller without an event loop, which blocks.

    Raises OSError, Closed or ProtocolError if that breaks off.
    """
    with channel.connect(name, socket.socket, ANSWER_TIME) as sock:
        channel.send(sock, {"all": True})
        while True:
            value, descriptors = channel.receive(sock)
            if "parcel" not in value:
                return
            yield Parcel(value["parcel"], descriptors)
