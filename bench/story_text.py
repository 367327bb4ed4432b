"""The parts of what bench/story.py's report says: names, figures as text, and sentences with conditions.

A sentence that claims something has a condition and a second text. If the run's figures do not fulfil the
condition, the report shows the second text, marked as a contradiction. So the story cannot claim what a run
did not show.
"""

from dataclasses import dataclass, field

NAMES = {
    "stop-and-wait": "the proxy with 8 KB",
    "direct": "TCP without a proxy",
    "lane": "lane over QUIC",
    "lane-tls": "lane over TLS",
    "lane-tls-bbr": "lane over TLS, with BBR",
    "v2ray": "v2ray over TLS",
    "v2ray-mux": "v2ray, all in one TLS",
}
SHORT = {
    "lane": "QUIC",
    "lane-tls": "TLS",
    "lane-tls-bbr": "TLS, BBR",
    "v2ray": "v2ray",
    "v2ray-mux": "v2ray, one",
}
"""The same in pictures and tables, where space is short."""
LANES = {"quic": "QUIC", "tls": "TLS", None: "nothing"}


@dataclass(frozen=True)
class Said:
    text: str
    against: bool = False
    """Whether the run contradicts the story here."""


@dataclass(frozen=True)
class Text:
    title: str
    said: list
    head: tuple
    rows: list
    link: str
    options: str = ""
    caption: str = ""
    notes: list = field(default_factory=list)


def plain(text, against=False):
    return Said(" ".join(text.split()), against)


def seen(holds, text, otherwise):
    return plain(text) if holds else plain(otherwise, against=True)


def short(number):
    """A figure with two or three digits."""
    if number is None:
        return "-"
    return f"{number:,.0f}" if number >= 100 else f"{number:.1f}" if number >= 10 else f"{number:.2f}"


def listed(words):
    words = list(words)
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def held(size, rtt, rate):
    """Mbit/s that a buffer allows: bytes, ms, Mbit/s."""
    return min(size * 8 / rtt / 1e3, rate)


def shown(link):
    return f"{link['rate']} Mbit/s, {link['rtt']} ms, {link['loss']} % loss"


def sized(figures):
    return f"lane with --buffer-size {figures['buffer'] >> 20}MB at both ends"


def counted(count, what):
    return f"one {what}" if count == 1 else f"{count} {what}s"
