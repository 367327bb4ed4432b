"""A session on its way to another process of the same machine, as values in MessagePack (https://msgpack.org).

They take no code from the other side, so they may come from another version of lane.
"""

import os
from typing import Any, NamedTuple

import msgpack

from lane.errors import ProtocolError


def pack(value: Any) -> bytes:
    """The bytes of a value. Texts may have lone surrogates: a plugin may name its users as it likes."""
    packed: bytes = msgpack.packb(value, unicode_errors="surrogatepass")
    return packed


def unpack(data: bytes) -> Any:
    """The value. Raises ProtocolError."""
    try:
        return msgpack.unpackb(data, unicode_errors="surrogatepass", strict_map_key=False)
    except (ValueError, msgpack.exceptions.UnpackException) as error:
        raise ProtocolError(f"malformed value: {error}") from None


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
