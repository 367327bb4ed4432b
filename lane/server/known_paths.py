"""What a server knows of the paths to its clients, kept in its state folder while it is restarted.

Its clients come back at once, and would have a slow first second otherwise: see `lane.net.path_memory`. The
file is worth little. Whatever is wrong with it, the server goes on without it. A crash loses it.
"""

import json
import logging
import time
from pathlib import Path

from lane.errors import ConfigError
from lane.files import read
from lane.net.path_memory import PathMemory
from lane.state import write

FILE = "paths"
MOST_BYTES = 1 << 20
"""The largest size of the file: 4,096 paths take about half of it."""

log = logging.getLogger("lane.server")


def load(folder: Path, memory: PathMemory) -> None:
    """Add to `memory` what `save` has written, for any worker. The time in between makes it older."""
    for path in sorted(folder.glob(f"{FILE}*")):
        _load(path, memory)


def _load(path: Path, memory: PathMemory) -> None:
    try:
        found = json.loads(read(path, MOST_BYTES, closed=0o022))
        passed = max(0.0, time.time() - found["time"])
        for network, rate, rtt, loss, age in found["paths"]:
            memory.restore(str(network), float(rate), float(rtt), float(loss), float(age) + passed)
    except (ConfigError, ValueError, TypeError, KeyError, RecursionError) as error:
        log.debug("nothing is known of paths: %s", error)


def save(folder: Path, memory: PathMemory, worker: int = 0) -> None:
    """Write what `memory` has, readable only by the owner: it names the networks of clients.

    Each worker of a server has a file of its own.
    """
    found = {"time": time.time(), "paths": memory.dump()}
    try:
        write(folder, {f"{FILE}.{worker}" if worker else FILE: json.dumps(found).encode()})
    except OSError as error:
        log.debug("what is known of paths was not written: %s", error)
