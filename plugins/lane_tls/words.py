"""What the system and OpenSSL say, in words for people."""

import os


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
