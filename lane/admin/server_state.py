"""What one process of a server has counted."""

from lane.admin.process import describe
from lane.admin.state import State
from lane.fair import maybe_yield
from lane.server import Server
from lane.server.live import LiveSessions
from lane.server.numbers import Histogram, Labels
from lane.server.resumption import Resumption
from lane.session.registry import Registry
from lane.users.traffic import NOTHING, Bytes

MOST_USERS = 1000
"""The most users with series of their own, in all workers together. Those who came first have them."""
OTHER = "other"
"""Stands for all other users. A user of that name is counted there too."""


class ServerState:
    """Collects the numbers of `server`, one of `workers`. `lag` is that of its event loop."""

    def __init__(
        self,
        server: Server,
        live: LiveSessions,
        registry: Registry,
        resumption: Resumption,
        lag: Histogram,
        *,
        worker: int = 0,
        workers: int = 1,
    ) -> None:
        self._server = server
        self._live = live
        self._registry = registry
        self._resumption = resumption
        self._lag = lag
        self._worker = str(worker + 1)
        self._most_users = max(1, MOST_USERS // workers)
        self._shown: dict[str, tuple[Bytes, Bytes]] = {}  # what was counted last, and what was forgotten
        self._rest = NOTHING

    def look(self) -> None:
        """Look at what is not counted by itself."""
        self._server.carriers.look_at_all()

    def collect(self) -> State:
        """The numbers now."""
        self.look()
        self._live.settle()
        state, numbers = State(), self._live.numbers
        describe(state, self._registry, self._lag, self._worker)
        state.gauge("lane_users_online", self._server.traffic.online)
        state.gauge("lane_sessions_waiting", self._resumption.waiting)
        for transport, number in self._server.carriers.by_transport.items():
            state.gauge("lane_carriers", number, transport)
        for name, values in (
            ("lane_bytes", numbers.bytes),
            ("lane_packets", numbers.packets),
            ("lane_packets_dropped", numbers.dropped_packets),
            ("lane_sessions_begun", numbers.begun),
            ("lane_sessions_ended", numbers.ended),
            ("lane_moves", numbers.moves),
            ("lane_refusals", numbers.refusals),
            ("lane_handshakes", numbers.handshakes),
            ("lane_handshakes_proven", numbers.proven),
            ("lane_link_sent_bytes", numbers.sent),
            ("lane_link_lost_bytes", numbers.lost),
        ):
            state.count(name, values)
        state.histogram("lane_round_trip_seconds", numbers.round_trips)
        self._count_users(state)
        state.online = self._server.online
        return state

    def _count_users(self, state: State) -> None:
        sessions: dict[Labels, float] = {}
        for user in self._server.traffic:
            maybe_yield()
            total = user.total
            state.users[user.name] = total
            if user.name not in self._shown and len(self._shown) < self._most_users and user.name != OTHER:
                self._shown[user.name] = NOTHING, NOTHING
            if user.sessions:
                label = (user.name if user.name in self._shown else OTHER,)
                sessions[label] = sessions.get(label, 0) + user.sessions
        state.gauges["lane_user_sessions"] = sessions
        counted: dict[Labels, float] = {}
        rest = self._all
        for name, (last, forgotten) in self._shown.items():
            total = Bytes(*state.users.get(name, NOTHING))
            before = forgotten.plus(last) if sum(total) < sum(last) else forgotten  # counted anew since then
            self._shown[name] = total, before
            whole = total.plus(before)
            counted |= {(name, "up"): whole.up, (name, "down"): whole.down}
            rest = rest.minus(whole)
        # Users have moved more since `_all` was counted, and what was counted once stays so.
        self._rest = Bytes(*map(max, rest, self._rest))
        counted |= {(OTHER, "up"): self._rest.up, (OTHER, "down"): self._rest.down}
        state.count("lane_user_bytes", counted)

    @property
    def _all(self) -> Bytes:
        """What all sessions have moved."""
        up, down = (
            sum(number for (_, way), number in self._live.numbers.bytes.items() if way == one)
            for one in ("up", "down")
        )
        return Bytes(up, down)
