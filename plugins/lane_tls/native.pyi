"""What native.c has: see portable.py."""

from collections.abc import Callable
from typing import Any

def seal(
    encrypt: Callable[..., Any],
    iv: bytes,
    number: int,
    out: memoryview,
    at: int,
    kind: int,
    head: bytes,
    data: memoryview,
    /,
) -> int: ...
def open_data(
    decrypt: Callable[..., Any],
    iv: bytes,
    number: int,
    sealed: memoryview,
    start: int,
    plain: memoryview,
    made: int,
    limit: int,
    /,
) -> tuple[int, int, int]: ...
