"""What the system and OpenSSL say, in words for people."""

import os
from typing import Any


def words(error: Exception) -> str:
    """One line of the system's: the standard library adds to it at places."""
    number = getattr(error, "errno", None)
    if number and number > 0:
        return os.strerror(number)
    return getattr(error, "strerror", None) or str(error)


def reason(error: Exception) -> str:
    """OpenSSL's words for the first thing that went wrong."""
    try:
        return str(error.args[0][0][2])
    except (IndexError, TypeError):
        return "unknown error"


def host(address: Any) -> str:
    """The host of a socket address, as IPv4 where it came in through a socket for both."""
    text: str = address[0]
    return text.removeprefix("::ffff:") if "." in text else text
