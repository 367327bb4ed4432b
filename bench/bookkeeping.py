"""CPU that accounts, limits and counters take of each session on a server, without any network.

    python bench/bookkeeping.py [--rounds 60] [--sessions 300]

Sessions begin and end one after the other, with a service that does nothing. Rounds with all that counts and
limits them, and rounds without, take turns. The result is the CPU of the quickest round of either kind, in
microseconds a session: a busy machine makes rounds slower, and never quicker.
"""

import argparse
import time
from types import SimpleNamespace

import gevent

from lane.address import Address
from lane.admin.access_log import AccessLog
from lane.proto.hello import Command, Request
from lane.server import hosting
from lane.server.carriers import Carriers
from lane.server.hosting import Hosting
from lane.server.live import LiveSession, LiveSessions
from lane.server.resumption import Resumption
from lane.session.owner import Owner
from lane.session.registry import Registry
from lane.stream import LinkStats
from lane.users.account import Account
from lane.users.source import Fixed
from lane.users.traffic import Limits, Traffic
from lane.users.users import Users

USER = "anna"
NOWHERE = Address("127.0.0.1", 1)
LINK = LinkStats(rtt=0.001, sent=1)


def nothing(*_, **__):
    pass


class Service:
    buffer_size = None
    waits_for_peer = False
    bound = NOWHERE
    reset = nothing

    def __init__(self, request, user, authorize):
        self.owner = Owner()

    def run(self, session):
        return None


class Bed:
    """The part of a server that hosts sessions."""

    def __init__(self):
        self.traffic = Traffic()
        self.users = Users(Fixed(Account(USER, bytes(32))), drain=self.traffic.drain)
        self.traffic.limits = lambda user: Limits(*self.users.limits(user))
        self.users.changed = self.traffic.changed
        self.live = LiveSessions(AccessLog(None, "text"))
        self.live.numbers.know(["tls"])
        self.carriers = Carriers(self.live.numbers)
        self.carrier = SimpleCarrier(peer="192.0.2.1:999", one_stream=True)
        self.carriers.add(self.carrier, "tls")
        self.visit = self.users.enter(USER, b"device")
        hook = SimpleNamespace(lane_session_started=nothing, lane_session_ended=nothing)
        self.hosting = Hosting(
            hook,
            {Command.CONNECT: Service},
            Registry(1 << 20, 1 << 26, 600.0, 10000, 10000, many_users=True),
            Resumption(60.0, 10000, 1 << 25),
            traffic=self.traffic,
            users=self.users,
            live=self.live,
            carriers=self.carriers,
        )

    def without(self):
        """Leave out all that counts and limits."""
        self.users.check = self.users.begin = self.users.end = nothing
        self.traffic.begin = self.traffic.end = nothing
        self.live.begin = self.live.end = self.live.leave = self.live.carried = nothing
        self.carriers.take = nothing
        return self

    def session(self):
        self.users.check(self.visit)
        request = Request(Command.CONNECT, NOWHERE, 65536)
        session = self.hosting.connect(self.carrier, request, USER, None).session
        known = self.carriers.known(self.carrier)
        self.live.carried(session, known.transport, known.number)
        self.carriers.take(known, LINK)
        gevent.sleep(0)  # it runs to its end

    def round(self, count):
        """Microseconds a session."""
        begin = time.thread_time()
        for _ in range(count):
            self.session()
        return (time.thread_time() - begin) / count * 1e6


class SimpleCarrier(SimpleNamespace):
    __hash__ = object.__hash__


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=60)
    parser.add_argument("--sessions", type=int, default=300)
    args = parser.parse_args()
    beds, found = {"with": Bed(), "without": Bed().without()}, {}
    for number in range(args.rounds):
        for name, bed in beds.items():
            hosting.LiveSession = LiveSession if name == "with" else nothing
            took = bed.round(args.sessions)
            if number:  # warm
                found.setdefault(name, []).append(took)
    least = {name: min(values) for name, values in found.items()}
    print(
        f"CPU of a session, microseconds: {least['with']:.1f} with accounts, limits and counters,"
        f" {least['without']:.1f} without: {least['with'] - least['without']:.1f}"
    )


if __name__ == "__main__":
    main()
