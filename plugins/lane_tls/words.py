"""OpenSSL's errors as text."""


def reason(error: Exception) -> str:
    """OpenSSL's text for the first error."""
    try:
        return str(error.args[0][0][2])
    except (IndexError, TypeError):
        return "unknown error"
