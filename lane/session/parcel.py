"""A session on its way to another process of the same machine."""

import os
from typing import Any, NamedTuple


class Parcel(NamedTuple):
    """What a session is, as a plain value, and the descriptors of its sockets."""

    state: dict[str, Any]
    descriptors: list[int]

    def close(self) -> None:
        """Close the descriptors of a session that nobody took: their peers get a reset."""
        for descriptor in self.descriptors:
            os.close(descriptor)


class Elsewhere(Exception):
    """The session went from here to yet another process."""
