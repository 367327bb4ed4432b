"""What OpenSSL says, in words for people."""


def reason(error: Exception) -> str:
    """OpenSSL's words for the first thing that went wrong."""
    try:
        return str(error.args[0][0][2])
    except (IndexError, TypeError):
        return "unknown error"
