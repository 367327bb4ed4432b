"""All metrics, in one table. docs/METRICS.md and conf/grafana.json use them, and tests compare all three.

Names follow https://prometheus.io/docs/practices/naming: base units, and counters that end in `_total` where
they are shown. Each label has a limited number of values.
"""

from typing import Literal, NamedTuple

from lane.server.numbers import ROUND_TRIPS


class Family(NamedTuple):
    """One metric: its kind, what it says, and the names of its labels."""

    kind: Literal["counter", "gauge", "histogram"]
    help: str
    labels: tuple[str, ...] = ()
    bounds: tuple[float, ...] = ()
    """The upper bounds of a histogram."""


LAGS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)

COMMON = {
    "lane_info": Family("gauge", "1, with the version of lane", ("version",)),
    "lane_start_time_seconds": Family("gauge", "When the process started, seconds since the epoch"),
    "lane_sessions": Family("gauge", "Sessions at present"),
    "lane_memory_resident_bytes": Family("gauge", "Memory of a process", ("worker",)),
    "lane_buffer_bytes": Family("gauge", "Memory of sessions beyond 256 KB each", ("what",)),
    "lane_cpu_seconds": Family("counter", "CPU time of all processes"),
    "lane_loop_lag_seconds": Family(
        "histogram", "How late the event loop woke up, once a second", (), LAGS
    ),
}  # fmt: skip
"""Those of clients and servers."""

SERVER = {
    **COMMON,
    "lane_workers": Family("gauge", "Processes that serve"),
    "lane_worker_restarts": Family("counter", "Workers that died and were started again"),
    "lane_users_online": Family("gauge", "Users with sessions"),
    "lane_sessions_waiting": Family("gauge", "Sessions that have lost their client and wait for it"),
    "lane_carriers": Family("gauge", "Connections of clients at present", ("transport",)),
    "lane_bytes": Family(
        "counter", "Bytes of sessions, up from clients, down to them", ("transport", "direction")
    ),
    "lane_user_bytes": Family(
        "counter", "Bytes of the sessions of a user; `other`: of users beyond 1000", ("user", "direction")
    ),
    "lane_user_sessions": Family("gauge", "Sessions of a user at present", ("user",)),
    "lane_packets": Family("counter", "UDP packets from clients (up) and to them", ("direction",)),
    "lane_packets_dropped": Family("counter", "UDP packets for clients that were dropped"),
    "lane_sessions_begun": Family("counter", "Sessions, by tcp, udp, bind or reverse", ("kind",)),
    "lane_sessions_ended": Family("counter", "Sessions that have ended, clean or broken", ("end",)),
    "lane_moves": Family(
        "counter", "How often a session went on over another connection", ("before", "after")
    ),
    "lane_refusals": Family("counter", "What was refused", ("reason",)),
    "lane_handshakes": Family("counter", "Connections that clients made", ("transport",)),
    "lane_handshakes_proven": Family("counter", "Those whose client has proven a key", ("transport",)),
    "lane_link_sent_bytes": Family("counter", "Bytes that left, as connections measure it", ("transport",)),
    "lane_link_lost_bytes": Family("counter", "Those that were lost or sent again", ("transport",)),
    "lane_round_trip_seconds": Family(
        "histogram", "Round trips of connections that send, each few seconds", ("transport",), ROUND_TRIPS
    ),
}  # fmt: skip
"""Those of a server."""

CLIENT = {
    **COMMON,
    "lane_path_up": Family("gauge", "Whether a transport reaches the server", ("transport",)),
    "lane_path_carries": Family("gauge", "Whether new sessions use it", ("transport",)),
    "lane_path_round_trip_seconds": Family("gauge", "Its round trip", ("transport",)),
    "lane_path_loss_ratio": Family("gauge", "The part of the bytes that was lost, 0 to 1", ("transport",)),
    "lane_path_goodput_bytes": Family("gauge", "Bytes that arrive in a second", ("transport",)),
    "lane_outage": Family("gauge", "Whether no transport works"),
}
"""Those of a client."""
