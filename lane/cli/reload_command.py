"""`lane reload`: it has a running server or client read its files again, and prints what that gave.

The signal is SIGHUP, as from `kill -HUP`; what came of it is asked at the control socket.
"""

import json

from lane.asking import ask
from lane.config import ReloadConfig


def run(config: ReloadConfig, plugins: object) -> int:
    """Print what was read, and what stayed as before. Return 0, or 78 if something could not be read.

    Raises Unreachable if nobody answers.
    """
    (answer,) = ask(config.control, who=config.who, named=config.named, what="reload")
    if config.json:
        print(json.dumps(answer))
    else:
        print(f"read again: {', '.join(answer['read']) or 'nothing'}")  # no limit: this joins text
        for line in answer["kept"]:
            print(line)
    return 78 if answer["failed"] else 0
