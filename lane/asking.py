"""Asking a running client or server at its control socket (`lane.control`).

`lane why` and `lane status` do only this. So there is no event loop here: its import takes longer
than all the command.
"""

import json
import os
import socket
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from lane.errors import Unreachable
from lane.meeting import UNKNOWN, Unfit, connect
from lane.shown import text

MAX_ANSWER = 16 << 20
"""The longest answer that is read, bytes."""
ANSWER_TIME = 10.0
"""Seconds to wait for a line."""
TRIES = 3
"""The most processes that may end, one after the other, without an answer."""


class NotKnown(Unreachable):
    """The process does not know the question: it is of another version."""


def ask(
    path: Path, *, follow: bool = False, who: str = "client", named: bool = False, what: str = ""
) -> Iterator[dict[str, Any]]:
    """The snapshot of the client at `path`; with `follow` one after the other, until the client ends.

    `who` is there: `client` or `server`. `named`: see `lane.meeting.connect`. `what`: something else than the
    snapshot (see `lane.control`). Blocks the whole process. Raises Unreachable if nobody answers, or if the
    other side is no such process of lane or may belong to another user; NotKnown if it does not know `what`.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise Unreachable(f"no {who} can be asked here: Python has no Unix sockets on this system")
    question = {"follow": follow, **({"ask": what} if what else {})}
    # A process that ends may have taken the connection already. In an upgrade, another one answers the next.
    for _ in range(TRIES):
        answered = False
        for line in _lines(path, question, who, named=named):
            answered = True
            yield _parse_answer(path, line, who)
            if not follow:
                return
        if answered:
            break
    raise Unreachable(f"the {who} at {path} has ended")


def _lines(path: Path, question: dict[str, Any], who: str, *, named: bool) -> Iterator[bytes]:
    """The lines of the answer to `question`, until the other side closes. Raises Unreachable."""
    try:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(ANSWER_TIME)
            connect(sock, path, named=named)
            with suppress(BrokenPipeError, ConnectionResetError):  # its answer may have the reason
                sock.sendall(json.dumps(question).encode() + b"\n")
            # A reset is the end of a process that had not read the question.
            with sock.makefile("rb") as reader, suppress(ConnectionResetError):
                while line := reader.readline(MAX_ANSWER):
                    yield line
    except Unfit as error:
        raise Unreachable(f"{path} is not asked: {error}") from None
    except OSError as error:
        hint = " (try it with sudo)" if isinstance(error, PermissionError) and os.geteuid() else ""
        raise Unreachable(f"no {who} answers at {path}: {error.strerror or error}{hint}") from None


def _parse_answer(path: Path, line: bytes, who: str) -> dict[str, Any]:
    try:
        answer = json.loads(line)
    except (ValueError, RecursionError):
        answer = None
    if not isinstance(answer, dict):
        raise Unreachable(f"what answers at {path} is no {who} of lane")
    if "error" in answer:
        if answer["error"] == UNKNOWN:
            raise NotKnown(f"the {who} at {path} is of a version of lane that can't be asked that")
        raise Unreachable(f"the {who} at {path} says: {text(answer['error'])}")
    return answer
