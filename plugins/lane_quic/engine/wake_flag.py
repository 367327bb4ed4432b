"""Flags that wake a stream.

An idle stream is not checked (stream_table.py). So each flag that aioquic checks there wakes the stream when
it is raised, whichever code raises it.
"""

from typing import Any


class WakeFlag:
    """A flag of one half of a stream. Setting it to `raised` wakes the stream. Reading it is not slower."""

    def __init__(self, raised: bool) -> None:
        self._raised = raised

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, half: Any, value: bool) -> None:
        half.__dict__[self._name] = value
        if value is self._raised:
            half.wake()
