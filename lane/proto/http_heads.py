"""Heads of HTTP messages: where they end, and those of answers in the form that RFC 9112 gives them.

Much of what answers HTTP was written by hand: devices, scripts, servers of music. Browsers take what these
say, and so does a proxy, or it is what broke the page. h11 is strict, so a head is mended before h11 reads
it. Who mends may read another thing than was meant: on a connection that had something to mend, nothing
follows. What says where an answer ends is never guessed, and never left where others might find it. Requests
are not mended: those have one form, and an application that has another one may be told so.
"""

import re

from lane.errors import ProtocolError

MAX_LINES = 5000
"""The most lines of a head: to parse many tiny ones takes so long that all others wait."""

_HEAD_END = re.compile(rb"\n\r?\n")
_BLANK_LINES = re.compile(rb"(?:\r?\n)*")
_TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9a-zA-Z]+")
_REGULAR = re.compile(
    rb"HTTP/1\.[01] [0-9]{3}(?: [^\0\r\n\v\f]*+)?\r\n"
    rb"(?:[-!#$%&'*+.^_`|~0-9a-zA-Z]++:[^\0\r\n\v\f]*+\r\n)*+\r\n"
)
_START = re.compile(rb"(?i)[ \t]{0,8}(?:HTTP[/ \t]|ICY[ \t])")
_START_SIZE = 16  # bytes in which it is
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
    """A head of too many bytes or too many lines."""


class HeadBuffer:
    """What came of a connection, from which heads of at most `limit` bytes and `MAX_LINES` are taken."""

    def __init__(self, limit: int) -> None:
        self.data = bytearray()
        self._limit = limit
        self._searched = 0  # no head ends before it: single bytes must not cost a search of all

    def take(self) -> bytes | None:
        """The next head with its blank line; None while bytes are missing. Raises HeadTooLong."""
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
        """As `take`, for an answer: without empty lines before it. Raises ProtocolError if it is none."""
        if not self._searched:
            empty = _BLANK_LINES.match(self.data)
            if empty and empty.end():
                del self.data[: empty.end()]
                self._limit -= empty.end()  # they have an end, too
        found = self.take()
        if found is None and len(self.data) >= _START_SIZE and not _START.match(self.data):
            raise ProtocolError("the target does not speak HTTP")
        return found

    def drain(self) -> bytes:
        """All that is left."""
        data = bytes(self.data)
        self.data.clear()
        self._searched = 0
        return data


def mended(found: bytes) -> bytes:
    """The head of an answer in the form of RFC 9112: `found` itself where it has that. Raises ProtocolError.

    A version that is none of HTTP/1 becomes 1.0, after which nothing follows. White space before a colon and
    line breaks in a field's value are taken away (RFC 9112 sections 5.1 and 5.2), characters that control
    something become spaces (RFC 9110 section 5.5), and a line that is no field is left out.
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
    folds = False  # whether the line before is a field, so that this one may go on with it
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
    if len(codings) == 1 and codings[0][1].lower() == b"identity":  # of RFC 2616: none
        fields.remove(codings[0])
    out = [b"HTTP/%b %b %b" % (version, code, _harmless(reason))]
    for name, text in fields:
        value = bytes(text)
        out.append(b"%b: %b" % (name, value if name.lower() in _FRAMING else _harmless(value)))
    return b"\r\n".join([*out, b"", b""])


def _harmless(text: bytes) -> bytes:
    """`text` with spaces for what controls something. Raises ProtocolError where that hid something."""
    clean = text.translate(_CONTROLS)
    if clean != text and _HIDES_FRAMING.search(text):
        raise _unclear()
    return clean.strip(b" \t")


def _unclear() -> ProtocolError:
    return ProtocolError("the target's answer does not clearly say where it ends")
