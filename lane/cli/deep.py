"""The closer look of `lane check --deep`: at both ends, at the path between them, and at this machine."""

import datetime
from collections.abc import Iterator, Sequence
from statistics import median
from time import time

import gevent
from cryptography import x509

import lane
from lane.address import Address
from lane.carriers import measuring
from lane.carriers.connector import TunnelConnector
from lane.carriers.measuring import Delays
from lane.cli import kernel
from lane.cli.progress import Progress
from lane.errors import LaneError
from lane.stream import ClientTLS, Examines, Finding, Transport

SECONDS = 10.0
"""How long the path is measured."""
CLOCK = 5.0
"""A difference of the clocks that is worth a warning, seconds: files and logs get confused by it."""
SOON = 14
"""Days before its end at which a certificate is worth a warning."""
_WHAT = 12
_INDENT = 5 + _WHAT + 1
"""Columns before the text of a finding."""


class Witness:
    """A `ClientTLS` that notes the server's certificates. `dates`: whether the client checks theirs."""

    def __init__(self, tls: ClientTLS, *, dates: bool) -> None:
        self._tls = tls
        self.dates = dates
        self.leaf: bytes | None = None

    @property
    def server_name(self) -> str | None:
        """See `ClientTLS`."""
        return self._tls.server_name

    def verify(self, chain: list[bytes]) -> bytes:
        """See `ClientTLS`."""
        self.leaf = chain[0] if chain else None
        return self._tls.verify(chain)


def look(
    works: Sequence[tuple[Transport, TunnelConnector]],
    examined: Sequence[Transport],
    server: Address,
    witness: Witness,
    progress: Progress,
) -> None:
    """Print what is found. `works`: the transports that work; `examined`: all that are to be looked at."""
    for finding in _ends(works, witness):
        say(finding, progress)
    jobs = [gevent.spawn(_examined, one, server) for one in examined if isinstance(one, Examines)]
    jobs += [gevent.spawn(_delays, one.name, connector) for one, connector in works]
    began = time()
    while not all(job.dead for job in jobs):
        part = (time() - began) / (SECONDS + 3)
        progress.show(f"looking at the path for {SECONDS:g} s", min(part, 1.0))
        gevent.sleep(0.2)
    for job in jobs:
        for finding in job.get():  # no limit: it has ended
            say(finding, progress)
    for finding in kernel.findings():
        say(finding, progress)


def say(finding: Finding, progress: Progress) -> None:
    """Print one finding."""
    progress.say(f"{finding.state:4} {finding.what:{_WHAT}} {finding.text}", _INDENT)
    if finding.mend:
        progress.say(f"{'':{_INDENT}}-> {finding.mend}", _INDENT + len("-> "))


def _ends(works: Sequence[tuple[Transport, TunnelConnector]], witness: Witness) -> Iterator[Finding]:
    for _, connector in works[:1]:
        yield from _server(connector)
    if witness.leaf is not None:
        yield _certificate(witness.leaf, dates=witness.dates)


def _server(connector: TunnelConnector) -> Iterator[Finding]:
    before = time()
    try:
        about, _, _ = measuring.about(connector)
    except LaneError as error:
        yield Finding("note", "versions", f"lane {lane.__version__} here; of the server not known: {error}")
        return
    after = time()
    version, there = about.get("version"), about.get("time")
    if version == lane.__version__:
        yield Finding("ok", "versions", f"lane {lane.__version__} at both ends")
    else:
        yield Finding("note", "versions", f"lane {lane.__version__} here, {version} at the server")
    if isinstance(there, int | float) and not isinstance(there, bool):
        ahead = there - (before + after) / 2
        text = f"the server's is {abs(ahead):.1f} s {'ahead' if ahead > 0 else 'behind'}"
        if abs(ahead) <= CLOCK + (after - before):
            yield Finding("ok", "clock", text)
        else:
            yield Finding("warn", "clock", text, "set both by NTP: sudo timedatectl set-ntp true")


def _certificate(leaf: bytes, *, dates: bool) -> Finding:
    certificate = x509.load_der_x509_certificate(leaf)
    now = datetime.datetime.now(datetime.UTC)
    first, last = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    text = f"valid from {first:%Y-%m-%d} to {last:%Y-%m-%d}"
    if not dates:
        return Finding("ok", "certificate", f"{text}; the link pins its key, so the dates do not matter")
    if not first <= now <= last:
        return Finding("warn", "certificate", text, "renew it at the server, or set the clocks")
    if last - now < datetime.timedelta(days=SOON):
        return Finding("warn", "certificate", f"{text}: {(last - now).days} days are left", "renew it soon")
    return Finding("ok", "certificate", text)


def _examined(transport: Transport, server: Address) -> list[Finding]:
    assert isinstance(transport, Examines)
    try:
        return list(transport.examine(server, SECONDS))
    except LaneError as error:
        return [Finding("warn", transport.name, str(error))]


def _delays(name: str, connector: TunnelConnector) -> list[Finding]:
    try:
        with measuring.delays(connector) as found:
            gevent.sleep(SECONDS)
    except LaneError as error:
        return [Finding("note", f"over {name}", f"the round trip was not measured: {error}")]
    return [_summary(name, found)]


def _summary(name: str, found: Delays) -> Finding:
    if not found.trips:
        return Finding("warn", f"over {name}", "no answer")
    text = (
        f"round trip {median(found.trips) * 1000:.1f} ms, at most {max(found.trips) * 1000:.1f} ms, of"
        f" {len(found.trips)} in {SECONDS:g} s; jitter {(found.jitter or 0.0) * 1000:.1f} ms"
    )
    if found.unanswered:
        return Finding("warn", f"over {name}", f"{text}; then no answer for {measuring.ANSWER:g} s")
    return Finding("ok", f"over {name}", text)
