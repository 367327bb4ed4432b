"""Sessions that pass from one process of a server to another: those that leave, and those that come.

A session leaves when another process asks for it, because its client came there. When another process takes
the place of this one, idle sessions leave without being asked for, many at once, and wait there as they were
frozen (`lane.server.frozen`). At the end, all leave that are left.
"""

import logging
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from typing import Any

from lane.errors import Status, TargetError
from lane.fair import maybe_yield
from lane.server.frozen import Frozen
from lane.server.hosting import Hosting
from lane.server.resumption import Entry, Key, Resumption
from lane.session.parcel import Elsewhere, Parcel, pack, unpack
from lane.session.session import Session
from lane.supervisor import report

log = logging.getLogger("lane.server")


class Passage:
    """The sessions of `resumption`, which `hosting` makes live here."""

    def __init__(self, hosting: Hosting, resumption: Resumption) -> None:
        self._hosting = hosting
        self._resumption = resumption
        self._resumption.frozen.thaw = self._thaw
        self.elsewhere: Callable[[Key, int], Parcel | None] = lambda key, generation: None
        """Takes a session from another process that knows it: see `hand_over` there."""
        self._asking: dict[Key, Parcel | None] = {}
        """The sessions that others are being asked for, and those of them that `adopt` got meanwhile."""
        self._sending: set[Key] = set()  # idle sessions on their way to another process
        self._leaving = self._left = False

    def leave(self) -> None:
        """Take no more sessions from other processes: all go to the one that takes the place of this one."""
        self._leaving = True

    def stay(self) -> None:
        """Answer requests again: the process that was to go on with the sessions has died."""
        self._leaving = self._left = False

    # Sessions that leave.

    def hand_over(self, key: Key, generation: int) -> Parcel | None:
        """Stop a session here, so that another process goes on with it from this generation on.

        None if it is not known here, and then it is not begun here any more. Raises TargetError if it has
        ended, and Elsewhere if it went to yet another process.
        """
        known = self._resumption.get(key)
        if known is not None and known.leaves:
            raise Elsewhere
        entry = self._resumption.find(key, generation, again=True)
        if entry is None and key in self._resumption.frozen:
            return self._part_frozen(key, generation)
        if entry is None:
            was_here = self._resumption.was_here(key)
            self._resumption.moved(key, generation)
            if was_here:
                raise Elsewhere
            return None
        parcel = self._stop(entry, generation)
        self._resumption.moved(key, generation)
        return parcel

    def _stop(self, entry: Entry, generation: int) -> Parcel:
        """Stop a session for another process. Raises TargetError if it has ended."""
        hosted = entry.join(generation)
        try:
            return hosted.stop()
        except TargetError as error:
            if entry.verdict is None:
                self._resumption.ended(entry, error, known=False)
            verdict, text = entry.verdict or error.status, entry.text  # it may have ended in good order
            raise TargetError(verdict, text) from None

    def _part_frozen(self, key: Key, generation: int) -> Parcel:
        one = self._resumption.frozen.take(key)
        self._resumption.moved(key, generation, frozen=True)
        return _parcel(one)

    def idle(self, since: float, but: Container[Session] = ()) -> Iterator[Entry]:
        """The sessions that have moved nothing since this time and can wait elsewhere, without `but`."""
        for entry in self._resumption.entries:
            maybe_yield()
            hosted = entry.hosted
            if hosted is not None and hosted.is_idle(since) and hosted.session not in but:
                yield entry

    def hand_over_idle(self, entries: Sequence[Entry], since: float) -> list[Frozen]:
        """Stop those of these sessions that are still idle, all at once. The descriptors are the caller's.

        Call `arrived` or `adopt_again` with them. Until then, nobody gets an answer who asks for them here.
        """
        leaving = []
        for entry in entries:
            maybe_yield()
            if self._resumption.get(entry.key) is not entry:
                continue
            if entry.hosted is not None and entry.hosted.is_idle(since):
                entry.hosted.halt()
                leaving.append((entry, entry.hosted))
        found = []
        for entry, hosted in leaving:
            try:
                parcel = hosted.stopped()
            except TargetError as error:
                log.warning("%s: a session could not go to another process: %s", entry.key[0], error)
                if entry.verdict is None:  # it may have ended in good order
                    self._resumption.ended(entry, error, known=False)
                continue
            self._resumption.moved(entry.key, entry.generation)
            parcel.state.update(_name(entry.key, entry.generation))
            if len(parcel.descriptors) == 1:
                found.append(_frozen(parcel))
                self._sending.add(entry.key)
            else:  # its target has gone meanwhile
                self.adopt(parcel)
        return found

    def arrived(self, sessions: Iterable[Frozen]) -> None:
        """Note that another process has these, or that nobody knows whether it has."""
        self._sending.difference_update(one.key for one in sessions)

    def hand_over_all(self) -> Iterator[Parcel]:
        """Stop all sessions that can be resumed, so that another process goes on with them.

        Those that have ended go along, since their clients may not know. A session that has not reached its
        target yet stays, and no data reach its target here. No request is answered from then on.
        """
        self._left = True
        for key in self._resumption.frozen:
            if (one := self._resumption.frozen.get(key)) is not None:
                yield self._part_frozen(key, one.generation)
        for entry in self._resumption.entries:
            if self._resumption.get(entry.key) is not entry or entry.leaves:
                continue  # since the last one was stopped, the other process has asked for it
            if entry.verdict is None and entry.hosted is None:
                continue
            parcel = self._packed(entry)
            self._resumption.moved(entry.key, entry.generation)  # also if nobody takes it
            yield parcel

    def _packed(self, entry: Entry) -> Parcel:
        """A session that was begun, or how it has ended, for another process."""
        state = _name(entry.key, entry.generation)
        verdict, text = entry.verdict, entry.text
        if verdict is None:
            try:
                parcel = self._stop(entry, entry.generation)
            except TargetError as error:
                if error.status is not Status.COMPLETE:
                    log.warning("%s: a session could not go to another process: %s", entry.key[0], error)
                verdict, text = error.status, str(error)
            else:
                parcel.state.update(state)
                return parcel
        return Parcel(state | {"ended": [int(verdict), text]}, [])

    # Sessions that come.

    def adopt(self, parcel: Parcel) -> None:
        """Go on with a session of `hand_over_all` of another process."""
        state = parcel.state
        (user, session), generation = state["key"], state["generation"]
        key = user, session
        if self._asking.get(key, parcel) is None:
            self._asking[key] = parcel  # the answer will be that it is elsewhere: it was on its way here
            return
        if self._resumption.knows(key):
            parcel.close()  # it came before, on its own
            return
        entry = self._resumption.begin(key, generation)
        refusal: TargetError | None
        try:
            if "ended" not in state:
                entry.begin(self._hosting.thaw(parcel, entry))
                self._resumption.orphaned(entry)
                return
            status, text = state["ended"]
            refusal = TargetError(Status(status), text) if status != Status.COMPLETE else None
        except Exception as error:
            report("going on with a session of another process", error)
            refusal = TargetError(Status.GONE, "the session could not go on in another process")
        self._resumption.ended(entry, refusal, known=False)

    def keep(self, sessions: Iterable[Frozen]) -> None:
        """Keep sessions of `hand_over_idle` of another process, with their descriptors.

        Nothing happens to any of them before the caller lets other greenlets run.
        """
        frozen = self._resumption.frozen
        for one in sessions:
            if one.key not in self._asking and not self._resumption.knows(one.key) and frozen.takes(one):
                leave = self._hosting.count(one.peer, one.key[0])
                try:
                    frozen.put(one, leave)
                    continue
                except OSError:
                    leave()
            self.adopt(_parcel(one))

    def adopt_again(self, sessions: Iterable[Frozen]) -> None:
        """Go on with sessions of `hand_over_idle`, because no other process does."""
        for one in sessions:
            maybe_yield()
            self.adopt(_parcel(one))
            self._sending.discard(one.key)

    def thaw(self, users: Iterable[str]) -> None:
        """Go on with the frozen sessions of `users`."""
        for key in self._resumption.frozen.of(users):
            self._thaw(key)

    def _thaw(self, key: Key) -> None:
        if key in self._resumption.frozen:
            self.adopt(_parcel(self._resumption.frozen.take(key)))


def _name(key: Key, generation: int) -> dict[str, Any]:
    """What a parcel has in front of its session."""
    return {"key": [*key], "generation": generation}


def _frozen(parcel: Parcel) -> Frozen:
    state = parcel.state
    user, session = state["key"]
    return Frozen((user, session), state["generation"], state["peer"], pack(state), *parcel.descriptors)


def _parcel(one: Frozen) -> Parcel:
    return Parcel(unpack(one.state), [one.descriptor])
