"""What wakes a stream. One that has nothing to say is not asked (see stream_table.py): so each flag of its
halves that aioquic looks at there wakes it when it is raised, wherever that is done."""

from typing import Any


class WakeFlag:
    """A flag of half a stream, which wakes it when set to `raised`. Reading costs no more than without."""

    def __init__(self, raised: bool) -> None:
        self._raised = raised

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    def __set__(self, half: Any, value: bool) -> None:
        half.__dict__[self._name] = value
        if value is self._raised:
            half.wake()
