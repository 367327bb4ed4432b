"""Upgrades of a server, or of a client, under load: what do its users notice?

    python bench/upgrade.py [--only download,crowd] [--transports quic,tls,auto] [--upgrades 10] [--json FILE]
                            [--plot FILE [--replot]] [--whom client]

It prints what it measures. The exit status is 1 if anything broke, and 3 if data differed. Rows that need an
emulated link (root and netlab, see bench/labs.py) are skipped without one. In the file of --json, rows that
are not measured now are kept.

    download   one download at 50 ms over the upgrades in a row: the plot, and the longest time without a byte
    crowd      200 sessions of several kinds at 50 ms, over the upgrades in a row: what survives, and the
               longest time without a byte, of each kind (bench/upgrade_load.py); beside them a shell by ssh,
               a WebSocket and a download by curl (bench/upgrade_applications.py)
    handover   one session goes to another process, on loopback: milliseconds and bytes, of an idle session
               and of one with full windows
    idle       --sessions that are idle, on loopback, one upgrade: seconds, and memory
    roam       a client of four workers: it changes its address, and the lane that works, for --secs

With --whom client, the client is upgraded in the rows `download` and `crowd`.
"""

import argparse
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import ExitStack, suppress
from itertools import cycle
from pathlib import Path
from types import SimpleNamespace

import labs
import upgrade_plot
from labs import BENCH, SERVER, Link, end
from processes import lane_client, line_with
from soak_kinds import socks5
from soak_target import UDP_HOST
from upgrade_applications import Applications
from upgrade_server import REST, Client, Server, spans, upgrades

DOWNLOAD, CROWD = Link(30, 50, 0, 28.3), Link(200, 50, 0, 188)
STEP = 0.1
"""Seconds of each point of the plot."""
QUIET = 5.0
"""Seconds before the first upgrade, whose figures are there to compare."""
REVERSE = range(7001, 7006)
"""Ports of reverse forwards on the server's side."""
EXPECTED = 10
"""Seconds for which curl's download has data, for each upgrade."""
ADDRESSES = [f"10.9.0.{last}" for last in (1, 3, 4, 5, 6, 7)]
CHANGE = 5.0
"""Seconds between two changes for a client that roams."""
WATCH = """
import time
from gevent.pool import Pool
from lane import hookimpl
from lane.handover import channel, exchange

take = exchange.Others.take

def timed(self, key, generation):
    began = time.monotonic()
    parcel = take(self, key, generation)
    if parcel is not None:
        took = time.monotonic() - began
        print(f"took {len(channel.pack(parcel.state))} {1000 * took:.2f}", flush=True)
    return parcel

exchange.Others.take = timed
"""
"""A plugin that prints the bytes of each session that comes from another process, and milliseconds."""


# On an emulated link


def placed(lab, transport, args, server_options=(), client_options=()):
    """A server and its client in a lab: the one that is upgraded, and the client's port."""
    logs = [
        ("--log-level", "debug", "--log-file", Path(args.logs).absolute() / f"{who}.log") if args.logs else ()
        for who in ("server", "client")
    ]
    server = Server(lab.stack, lab.folder(), f"{SERVER}:4433", (*server_options, *logs[0]), lab.prefix("s"))
    options = (*client_options, *logs[1])
    client = Client(lab.stack, lab.folder(), transport, server.link, options, lab.prefix("c"))
    return {"server": server, "client": client}[args.whom], client.port


def targets(lab, side):
    """bench/soak_target.py at one side: its ports for TCP, HTTP and UDP."""
    process = lab.start(side, sys.executable, BENCH / "soak_target.py")
    return list(map(int, line_with(process, "ready").split()[1:]))


def load(lab, side, *arguments):
    return lab.start(side, sys.executable, BENCH / "upgrade_load.py", *arguments)


def download(transport, args):
    with labs.lab(DOWNLOAD) as lab:
        upgraded, port = placed(lab, transport, args)
        app = lab.load("c", "down", "--on", "--series", STEP, proxy=port)
        began = float(line_with(app, "began").split()[1])
        time.sleep(QUIET)
        done = upgrades(upgraded, args.upgrades)
        trace = end(app)
        late = lab.late()
    for one in done:
        for name in one:
            one[name] = round(one[name] - began, 2)
    gaps = [gap for at, gap in trace["gaps"] if at + gap > done[0]["began"]]
    figures = {"gap": max(gaps, default=0.0), "Mbit/s": labs.mbps(trace), "upgrade": spans(done)}
    return {"figures": figures, "broke": trace["error"], "trace": trace, "upgrades": done, "late_us": late}


def crowd(transport, args):
    with labs.lab(CROWD) as lab:
        tcp, _, _ = targets(lab, "s")
        peers = load(lab, "s", "peers")
        udp = int(line_with(peers, "ready").split()[1])
        back, _, _ = targets(lab, "c")
        forwards = [f"tcp://127.0.0.1:{port}=127.0.0.1:{back}" for port in REVERSE]
        listening = ("--reverse", ",".join(forwards))
        upgraded, port = placed(lab, transport, args, ("--allow-reverse", "*"), listening)
        ends = ("--proxy", f"127.0.0.1:{port}", "--tcp", f"127.0.0.1:{tcp}", "--udp", f"{UDP_HOST}:{udp}")
        chosen_kinds = ("--kinds", args.kinds) if args.kinds else ()
        apps = {"": load(lab, "c", "crowd", *ends, *chosen_kinds)}
        ports = ",".join(map(str, REVERSE))
        apps["reverse "] = load(lab, "s", "crowd", "--ports", ports, "--kinds", "both=5,new=1")
        for app in apps.values():
            line_with(app, "began")
        programs = Applications(lab, port, args.upgrades * EXPECTED)
        time.sleep(QUIET)
        for app in apps.values():
            app.send_signal(signal.SIGUSR1)
        done = upgrades(upgraded, args.upgrades)
        time.sleep(REST)
        kinds = {f"{name}{kind}": one for name, app in apps.items() for kind, one in end(app).items()}
        late, (delays, wrong) = lab.late(), programs.end()
    errors = [error for one in kinds.values() for error in one["errors"]] + wrong
    errors += [
        f"{name}: {one['count'] - one['alive']} of {one['count']} broke"
        for name, one in kinds.items()
        if one["alive"] < one["count"]
    ]
    figures = {name: f"{one['gap']:.2f}/{one['delay']:.2f}" for name, one in kinds.items()}
    figures |= delays | programs.missing
    figures |= {"upgrade": spans(done), "took over": spans(done, ends="taken")}
    figures["packets lost"] = f"{kinds['udp']['lost']} of {kinds['udp']['sent']}"
    return {"figures": figures, "broke": "; ".join(errors), "kinds": kinds, "upgrades": done, "late_us": late}


def roam(transport, args):
    """A change every five seconds: of the address, then of the lane that works, and so on."""
    with labs.lab(CROWD) as lab:
        tcp, _, _ = targets(lab, "s")
        udp = int(line_with(load(lab, "s", "peers"), "ready").split()[1])
        server, port = placed(lab, transport, args, ("--workers", 4))
        ends = ("--proxy", f"127.0.0.1:{port}", "--tcp", f"127.0.0.1:{tcp}", "--udp", f"{UDP_HOST}:{udp}")
        app = load(lab, "c", "crowd", *ends, "--kinds", "both=20,half=5,udp=5,idle=10,chat=1")
        line_with(app, "began")
        time.sleep(QUIET)
        app.send_signal(signal.SIGUSR1)
        began, number, moved, changes = time.monotonic(), 0, 0, []
        addresses, blocks = cycle(ADDRESSES), cycle(("udp", "tcp"))
        now, before = next(addresses), None
        while time.monotonic() < began + args.secs:
            number += 1
            if number % 2:
                now, old = next(addresses), now
                script = f"set -e; link=$(ip -o -4 address show to {old} | awk '{{print $2}}'); "
                script += f"ip address delete {old}/24 dev $link; ip address add {now}/24 dev $link"
                if lab.start("c", "sh", "-c", script).wait(10):
                    raise SystemExit("the address could not be changed")
            elif transport == "auto":
                blocked = next(blocks)
                lab.set("--block-udp", int(blocked == "udp"), "--block-tcp", int(blocked == "tcp"))
            changes.append(time.time())
            time.sleep(max(0.0, began + CHANGE * number - time.monotonic()))
            sessions = [one["sessions"] for one in server.status()["workers"]]
            moved += before is not None and sessions != before
            before = sessions
        lab.set("--block-udp", 0, "--block-tcp", 0)
        time.sleep(5)
        kinds, late = end(app), lab.late()
    errors = [error for one in kinds.values() for error in one["errors"]]
    figures = {name: f"{one['gap']:.2f}/{one['delay']:.2f}" for name, one in kinds.items()}
    figures |= {"changes": number, "other workers": moved}
    stalls = [gap for one in kinds.values() for _, _, gap in one["stalls"]]
    figures |= {"stalls": f"{len(stalls)} of {sum(stalls):.0f} s in all"}
    record = {"figures": figures, "broke": "; ".join(errors), "kinds": kinds, "late_us": late}
    return record | {"changes": changes}


# On loopback


def handover(transport, args):
    """A session goes to the new process because its client comes there."""
    figures = {}
    for kind in ("idle", "full"):
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            (folder / "plugins").mkdir(mode=0o700)
            (folder / "plugins" / "watch.py").write_text(WATCH)
            watch = ("--plugin-dir", folder / "plugins")
            server = Server(stack, folder / "state", "127.0.0.1:0", watch)
            _, port = lane_client(stack, transport, server.link)
            deaf = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            app, target = meet(stack, port, deaf)
            if kind == "full":
                threading.Thread(target=fill, args=(app,), daemon=True).start()
                threading.Thread(target=fill, args=(target,), daemon=True).start()
                time.sleep(3)
            for _ in range(args.upgrades):
                server.upgrade()
            lines = server.process.said.read_text().splitlines()
            found = [line.split()[1:] for line in lines if line.startswith("took ")]
            sizes, times = zip(*((int(size), float(took)) for size, took in found), strict=True)
            figures[kind] = f"{sorted(times)[len(times) // 2]:.1f} ms, {max(sizes) / 1e6:.3f} MB"
    return {"figures": figures, "broke": None}


def meet(stack, proxy, listener):
    """A connection through the proxy, and its other end."""
    app = stack.enter_context(socks5(SimpleNamespace(proxy=proxy), *listener.getsockname())[0])
    return app, stack.enter_context(listener.accept()[0])


def fill(sock):
    with suppress(OSError):
        sock.settimeout(None)
        while True:
            sock.sendall(bytes(1 << 16))


def idle(transport, args):
    """Run by itself, since its thousands of connections are greenlets."""
    command = [sys.executable, BENCH / "upgrade_idle.py", transport, str(args.sessions)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    found = json.loads(done.stdout.splitlines()[-1])
    return {"figures": found, "broke": found.pop("broke")}


ROWS = {"download": download, "crowd": crowd, "handover": handover, "idle": idle, "roam": roam}
ON_LINKS = ("download", "crowd", "roam")


def chosen(text, known):
    names = text.split(",")
    if unknown := set(names) - set(known):
        raise SystemExit(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return names


def save(file, found):
    kept = json.loads(Path(file).read_text()) if Path(file).exists() else {}
    Path(file).write_text(json.dumps(kept | found) + "\n")


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--only", default=",".join(ROWS))
    parser.add_argument("--transports", default="quic,tls,auto")
    parser.add_argument("--upgrades", type=int, default=10)
    parser.add_argument("--whom", choices=("server", "client"), default="server")
    parser.add_argument("--kinds", help="a smaller crowd: see bench/upgrade_load.py")
    parser.add_argument("--sessions", type=int, default=10_000)
    parser.add_argument("--secs", type=int, default=120)
    parser.add_argument("--json", metavar="FILE")
    parser.add_argument("--plot", metavar="FILE", help="an SVG of the downloads")
    parser.add_argument(
        "--logs", metavar="FOLDER", help="for the logs of lane at emulated links, of debugging"
    )
    parser.add_argument("--replot", action="store_true", help="only draw what the file of --json has")
    args = parser.parse_args()
    if args.replot:
        return upgrade_plot.draw(json.loads(Path(args.json).read_text()), args.plot)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that no lab remains
    found, broke = {}, False
    for name in chosen(args.only, ROWS):
        if name in ON_LINKS and (missing := labs.lacking()):
            print(f"{name} left out: netlab needs {' and '.join(missing)}")
            continue
        for transport in args.transports.split(","):
            record = ROWS[name](transport, args)
            said = ", ".join(f"{what} {value}" for what, value in record["figures"].items())
            bad = f"\n    BROKE: {record['broke']}" if record["broke"] else ""
            print(f"{name}, {transport}: {said}{bad}", flush=True)
            if record.get("late_us", 0) > labs.LATE:
                print(f"    WARNING: the link was {record['late_us']:.0f} us late: the machine is too busy")
            broke |= bool(record["broke"])
            whom = "" if args.whom == "server" else f"-{args.whom}"
            found[f"{name}-{transport}{whom}"] = record | {"about": labs.about()}
            if args.json:
                save(args.json, found)
    if args.plot:
        upgrade_plot.draw(found, args.plot)
    return int(broke)


if __name__ == "__main__":
    sys.exit(main())
