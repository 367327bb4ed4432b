"""The walk of a byte and of a connection: which functions of lane they enter, and in how many files.

    python bench/walk.py [FOLDER ...] [--list]

FOLDER is a checkout (default: this one). For each transport a client and a server run under cProfile while
100 MB are downloaded, and then anew while 400 connections move a byte each way. The walk of a byte is the
functions that were called at least once a MB, in either process. The walk of a connection is those that were
called at least once for each. `--list` names them.
"""

import argparse
import pstats
import signal
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from commits import Lane
from processes import line_with, start

HERE = Path(__file__).parents[1]
WALKS = {"byte": ("download", 100), "connection": ("connections", 400)}
ALMOST = 0.99
"""The first connections of all wait for what later ones have: a few calls less are as good as all."""


def walk(stack, folder, transport, work, size):
    """(file, function) of each function that was called for each MB or connection, in either process."""
    target = start(stack, sys.executable, Path(__file__).with_name("target.py"), "serve")
    profiles = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    lane = Lane(stack, folder, transport, int(line_with(target, "\n")), profiles)
    lane.batch(work, size)
    for process in (lane.client, lane.server):
        process.send_signal(signal.SIGTERM)
        process.wait(30)
    found = set()
    for role in ("client", "server"):
        for (file, _, name), (_, calls, *_) in pstats.Stats(str(profiles / role)).stats.items():
            path = Path(file)
            inside = any(path.is_relative_to(folder / part) for part in ("lane", "plugins"))
            if inside and calls >= ALMOST * size and not name.startswith("<"):
                found.add((str(path.relative_to(folder)), name))
    return found


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, default=[HERE], metavar="FOLDER")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    for transport in ("tls", "quic"):
        for what, (work, size) in WALKS.items():
            for folder in args.folders:
                with ExitStack() as stack:
                    found = walk(stack, folder.resolve(), transport, work, size)
                files = len({file for file, _ in found})
                print(
                    f"{transport}, a {what}: {len(found)} functions in {files} files ({folder})", flush=True
                )
                for file, name in sorted(found) if args.list else ():
                    print(f"    {file} {name}")


if __name__ == "__main__":
    main()
