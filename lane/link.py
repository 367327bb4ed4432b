"""A `lane://` link: everything that a client needs to reach and trust a server, in one line to copy.

    lane://KEY@HOST:PORT?pin=PIN[&PLUGIN-OPTION=VALUE...]

KEY is the user's secret. PIN is the SHA-256 of the server certificate's public key. Both are 32 bytes in
base64url without padding (RFC 4648 section 5). Options of plugins that a client needs may follow,
percent-encoded. Their names have a dash. A link is a secret, so no error message contains one.
"""

import base64
import binascii
import re
from dataclasses import dataclass, field
from urllib.parse import quote, unquote_to_bytes

from lane.address import Address
from lane.errors import UsageError

_WRAPPING = re.compile("[\\s\\\\\"'`<>\u2018\u2019\u201c\u201d\u00ab\u00bb\u200b-\u200d\u2060\ufeff]+")
_PARAMETER = re.compile("[a-z0-9]+(?:[-_][a-z0-9]+)*-[a-z0-9]+")
KEY_SIZE = 32
SCHEME = "lane://"
MAX_LINK = 1024
"""The longest link that is accepted, characters."""
MAX_NAME = 32
"""The longest name of a parameter, characters."""


@dataclass(frozen=True, slots=True)
class Link:
    """A server, and the key for it. Raises UsageError for values that a link cannot have."""

    key: bytes = field(repr=False)
    """The user's key, 32 bytes."""
    address: Address
    pin: bytes
    """SHA-256 of the server certificate's SubjectPublicKeyInfo."""
    parameters: tuple[tuple[str, str], ...] = ()
    """Names and values of plugins' options."""

    def __post_init__(self) -> None:
        if len(self.key) != KEY_SIZE or len(self.pin) != KEY_SIZE:
            raise UsageError(f"malformed link: key and pin must be {KEY_SIZE} bytes")
        if not self.address.host or set(self.address.host) & set("@/?#[]"):
            raise UsageError("malformed link: that is no host name")
        if not 0 < self.address.port <= 0xFFFF:
            raise UsageError("malformed link: the port must be 1 to 65535")
        for name, value in self.parameters:
            if not _PARAMETER.fullmatch(name) or not value.isprintable():
                raise UsageError(f"malformed link: {name} is no parameter, or its value can't be printed")

    def __str__(self) -> str:
        more = "".join(f"&{name}={quote(value, safe='/:,')}" for name, value in self.parameters)
        return f"{SCHEME}{encode(self.key)}@{self.address}?pin={encode(self.pin)}{more}"

    @classmethod
    def parse(cls, text: str) -> "Link":
        """Read a link, even if it is wrapped or quoted. Raises UsageError, which never shows the key."""
        text = unwrapped(text)
        if len(text) > MAX_LINK or not text.startswith(SCHEME):
            raise UsageError(f"malformed link: expected {SCHEME}KEY@HOST:PORT?pin=PIN")
        key_text, at, rest = text.removeprefix(SCHEME).partition("@")
        place, _, query = rest.partition("?")
        if not at:
            raise UsageError("malformed link: it has no key, expected KEY@HOST:PORT")
        try:
            key = decode(key_text)
        except ValueError as error:
            raise UsageError(f"malformed link: the key is {error}") from None
        try:
            address = Address.parse(place)
        except UsageError:
            raise UsageError("malformed link: expected HOST:PORT or [IPV6]:PORT behind the @") from None
        pin = None
        parameters: dict[str, str] = {}
        for parameter in query.split("&") if query else ():
            name, _, value = parameter.partition("=")
            if _PARAMETER.fullmatch(name) and len(name) <= MAX_NAME:
                if name in parameters:
                    raise UsageError(f"malformed link: {name} is there twice")
                parameters[name] = unquote_to_bytes(value).decode(errors="surrogateescape")
                continue
            if name != "pin":
                # A short word helps the user. Anything longer may be a key in the wrong place.
                shown = name if name.isidentifier() and len(name) <= 16 else "that is not shown"
                raise UsageError(f"malformed link: unknown parameter {shown}")
            if pin is not None:
                raise UsageError("malformed link: pin is there twice")
            try:
                pin = decode(value)
            except ValueError as error:
                raise UsageError(f"malformed link: the pin is {error}") from None
        if pin is None:
            raise UsageError("malformed link: it has no pin")
        return cls(key, address, pin, tuple(parameters.items()))


def unwrapped(text: str) -> str:
    """Remove the characters that mails, chats, editors and shells add to a link or a key.

    These are spaces, line ends, backslashes before them, quotes and zero-width characters. No link and no key
    contains any of them.
    """
    return _WRAPPING.sub("", text)


def encode(data: bytes) -> str:
    """Base64url without padding."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(text: str) -> bytes:
    """The 32 bytes of a key or a pin, from its only base64url form. Raises ValueError, without the text."""
    try:
        data = base64.b64decode(f"{text}=", altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        data = b""
    # One key has one text: spare bits, padding and the other base64 alphabet are refused.
    if len(data) != KEY_SIZE or encode(data) != text:
        raise ValueError(f"not {KEY_SIZE} bytes of base64url")
    return data
