"""`lane reload`: it has a running server or client read its files again, and prints what that gave.

The signal is SIGHUP, as from `kill -HUP`; what came of it is asked at the control socket.
"""

import json

from lane.asking import NotKnown, ask
from lane.config import ReloadConfig
from lane.errors import Unreachable
from lane.shown import text


def run(config: ReloadConfig, plugins: object) -> int:
    """Print what was read, and what stayed as before. Return 0, or 78 if something could not be read.

    Raises Unreachable if nobody answers.
    """
    try:
        (answer,) = ask(config.control, who=config.who, named=config.named, what="reload")
    except NotKnown:
        answer = {}
    read, kept = answer.get("read"), answer.get("kept")
    if not isinstance(read, list) or not isinstance(kept, list):
        raise Unreachable(
            f"the {config.who} at {config.control} is of a version of lane without lane reload:"
            " kill -HUP has it read its files again"
        )
    if config.json:
        print(json.dumps(answer))
    else:
        print(f"read again: {', '.join(map(text, read)) or 'nothing'}")  # no limit: this joins text
        for line in kept:
            print(text(line))
    return 78 if answer.get("failed") else 0
