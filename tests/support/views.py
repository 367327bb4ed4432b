"""Views of a client and of a server, as `lane.look` makes them."""

NOW = 1_800_000_000.0


def history(*lanes, seconds=60):
    """A minute in which each lane carried more and more."""
    return {
        "step": 1.0,
        "times": [int(NOW) - seconds + 1 + at for at in range(seconds)],
        "lanes": {
            name: {
                "goodput": [at * 1_000_000 for at in range(seconds)],
                "loss": [None] * seconds,
                "rtt": [0.02] * seconds,
                "carries": [1] * seconds,
            }
            for name in lanes
        },
    }


def lane(name, **values):
    return {
        "name": name, "state": "answers", "why": "", "rtt": 0.021, "best_rtt": 0.02, "delay": 0.022,
        "loss": None, "goodput": 0.0, "cost": 1.0, "sessions": 0, **values,
    }  # fmt: skip


def session(number, **values):
    return {
        "id": str(number), "target": f"host-{number}.example.com:443", "user": None, "transport": "tls",
        "age": 60.0 + number, "up": 1000 * number, "down": 10**9, "up_rate": number,
        "down_rate": 100 - number, **values,
    }  # fmt: skip


def client_view(count=3, **values):
    return {
        "role": "client",
        "version": "0.1.0",
        "pid": 4242,
        "since": NOW - 7300,
        "now": NOW,
        "headline": "carried by tls: lowest CPU cost, no problems seen",
        "lanes": [lane("tls", state="carries", goodput=59e6, sessions=count), lane("quic")],
        "history": history("tls", "quic"),
        "moves": [
            {"time": NOW - 100, "from": "tls", "to": "quic", "reason": "tls loses 3 % of the packets"},
            {"time": NOW - 50, "from": "quic", "to": "tls", "reason": "lowest CPU cost, no problems seen"},
        ],
        "session_count": count,
        "sessions": [session(number) for number in range(count)],
        "users": None,
        "workers": None,
        "process": {"memory": 60_000_000, "lag": 0.0004},
        **values,
    }


def server_view(count=3, **values):
    user = {
        "name": "alice", "online": True, "sessions": count, "up": 5, "down": 10**9, "up_rate": 1,
        "down_rate": 300, "rate_up": None, "rate_down": 6_250_000, "quota": 10**11, "used": 10**9,
        "expires": None,
    }  # fmt: skip
    worker = {"pid": 7, "since": NOW - 60, "sessions": 1, "carriers": 4, "restarts": 0}
    return client_view(
        count,
        role="server",
        headline="2 processes, 3 sessions, 4 connections",
        lanes=[lane("quic", state=None, cost=None), lane("tls", state=None, cost=None)],
        moves=[],
        moved=17,
        sessions=[session(number, user="alice") for number in range(count)],
        users=[user, {**user, "name": "bob", "online": False, "down_rate": 900, "sessions": 0}],
        workers=[worker, {**worker, "pid": 8, "sessions": 2}],
        **values,
    )
