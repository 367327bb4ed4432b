"""Heads of HTTP messages: finding their end, and repairing those of responses to the form of RFC 9112.

Many HTTP servers are hand-written: in devices, scripts and music servers. Browsers accept their responses,
so a proxy must too, or users blame it. h11 is strict, so a head is repaired before h11 parses it. A repair
may change the meaning, so a connection with a repaired head is not used again. The end of a response is
never guessed, and a field that states it wrongly is never forwarded. Requests are not repaired: an
application with a malformed request gets an error.
"""

import re

from lane.errors import ProtocolError

MAX_LINES = 5000
"""The most lines of a head. Parsing many tiny lines would take so long that others wait."""

_HEAD_END = re.compile(rb"\n\r?\n")
_BLANK_LINES = re.compile(rb"(?:\r?\n)*")
_TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_REGULAR = re.compile(
    rb"HTTP/1\.[01] [0-9]{3}(?: [^\0\r\n\v\f]*+)?\r\n"
    rb"(?:[-!#$%&'*+.^_`|~0-9a-zA-Z]++:[^\0\r\n\v\f]*+\r\n)*+\r\n"
)
_START = re.compile(rb"(?i)[ \t]{0,8}(?:HTTP[/ \t]|ICY[ \t])")
_START_SIZE = 16  # bytes at the start that must contain it
_STATUS_LINE = re.compile(
    rb"(?is)[ \t]{0,8}(?:HTTP(?:/([0-9]+)(?:\.([0-9]+))?)?|ICY)[ \t]+([0-9]{3})(?![0-9])[ \t]*(.*)"
)
_MINORS = [b"%d" % minor for minor in range(1, 10)]
_FRAMING = (b"content-length", b"transfer-encoding")
_NAMES_FRAMING = re.compile(rb"(?i)content-length|transfer-encoding")
_HIDES_FRAMING = re.compile(rb"(?i)(?:content-length|transfer-encoding)[^:]*:")
_NO_CODING = re.compile(rb"(?i)\ntransfer-encoding:[ \t]*identity[ \t]*\r?\n")
_CONTROLS = bytes.maketrans(b"\0\r\v\f", b"    ")


class HeadTooLong(ProtocolError):
    """A head has too many bytes or too many lines."""


class HeadBuffer:
    """The received bytes of a connection. Heads have at most `limit` bytes and `MAX_LINES` lines."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self._limit = limit
        self._searched = 0  # no head ends before this; a single byte must not cost a search of everything

    def take(self) -> bytes | None:
        """Remove and return the next head, with its blank line. None while bytes are missing.

        Raises HeadTooLong.
        """
        end = _HEAD_END.search(self.data, self._searched, self._limit)
        if end is None:
            if len(self.data) >= self._limit:
                raise HeadTooLong("a head of too many bytes")
            self._searched = max(0, len(self.data) - 2)
            return None
        found = bytes(self.data[: end.end()])
        del self.data[: end.end()]
        self._searched = 0
        if found.count(b"\n") > MAX_LINES:
            raise HeadTooLong(f"a head of more than {MAX_LINES} lines")
        return found

    def take_answer(self) -> bytes | None:
        """Like `take`, for a response: skip empty lines before it. Raises ProtocolError for other bytes."""
        if not self._searched:
            empty = _BLANK_LINES.match(self.data)
            if empty and empty.end():
                del self.data[: empty.end()]
                self._limit -= empty.end()  # they count towards the limit
        found = self.take()
        if found is None and len(self.data) >= _START_SIZE and not _START.match(self.data):
            raise ProtocolError("the target does not speak HTTP")
        return found

    def drain(self) -> bytes:
        """Remove and return all remaining bytes."""
        data = bytes(self.data)
        self.data.clear()
        self._searched = 0
        return data


def mended(found: bytes) -> bytes:
    """Repair a response's head to the form of RFC 9112; a correct one is unchanged. Raises ProtocolError.

    A version other than HTTP/1.x becomes 1.0, after which the connection ends. White space before a colon and
    line breaks in a value are removed (RFC 9112 sections 5.1 and 5.2). Control characters become spaces
    (RFC 9110 section 5.5). A line that is not a field is dropped.
    """
    if _REGULAR.fullmatch(found) and not _NO_CODING.search(found):
        return found
    first, *lines = [line.removesuffix(b"\r") for line in found.split(b"\n")[:-2]]
    start = _STATUS_LINE.fullmatch(first)
    if start is None:
        raise ProtocolError("the target does not speak HTTP")
    major, minor, code, reason = start.groups()
    version = b"1.1" if major == b"1" and minor in _MINORS else b"1.0"
    fields: list[tuple[bytes, bytearray]] = []
    folds = False  # whether the previous line is a field that this one may continue
    for line in lines:
        if line.startswith((b" ", b"\t")):
            if _HIDES_FRAMING.search(line) or (folds and fields[-1][0].lower() in _FRAMING):
                raise _unclear()
            if folds:
                fields[-1][1].extend(b" " + line.strip(b" \t"))
            continue
        name, colon, value = line.partition(b":")
        name = name.rstrip(b" \t")
        folds = bool(colon and _TOKEN.fullmatch(name))
        if folds:
            fields.append((name, bytearray(value.strip(b" \t"))))
        elif _NAMES_FRAMING.search(line):
            raise _unclear()
    codings = [(name, text) for name, text in fields if name.lower() == b"transfer-encoding"]
    if len(codings) == 1 and codings[0][1].lower() == b"identity":  # in RFC 2616 it means no coding
        fields.remove(codings[0])
    out = [b"HTTP/%b %b %b" % (version, code, _harmless(reason))]
    for name, text in fields:
        value = bytes(text)
        out.append(b"%b: %b" % (name, value if name.lower() in _FRAMING else _harmless(value)))
    return b"\r\n".join([*out, b"", b""])


def _harmless(text: bytes) -> bytes:
    """`text` with spaces for control characters. Raises ProtocolError if they hide a framing field."""
    clean = text.translate(_CONTROLS)
    if clean != text and _HIDES_FRAMING.search(text):
        raise _unclear()
    return clean.strip(b" \t")


def _unclear() -> ProtocolError:
    return ProtocolError("the target's answer does not clearly say where it ends")
