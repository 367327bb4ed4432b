"""`lane diag`: what whoever gets a bug report wants to know, without secrets.

Two nets hold secrets back. Options whose value may be a secret are shown without it, and so are those of
plugins, of which lane knows nothing. Then everything that looks like a key, a link or a password is replaced
in the whole text, wherever it came from.
"""

import os
import platform
import re
import sys
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import lane
from lane.asking import ask
from lane.cli import kernel, option_parser, status, why_report
from lane.cli.build import build
from lane.cli.config_sources import PREFIX
from lane.cli.exits import ENDS
from lane.config import DiagConfig, status_config, why_config
from lane.config.option import Option
from lane.config.settings import BOTH, options_of
from lane.meeting import server_path
from lane.plugins import Plugins
from lane.text import describe, printable

LIBRARIES = ("aioquic", "cryptography", "gevent", "greenlet", "pyopenssl", "dnspython", "h11", "pluggy")
HIDDEN = "[removed]"
_SECRETS = (
    re.compile(r"lane://[^\s\"']+"),
    re.compile(r"(?<=://)[^\s/@\"']+(?=@)"),  # USER:PASSWORD of a URL
    re.compile(r"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{43}=?(?![A-Za-z0-9_-])"),  # 32 bytes of base64url
    re.compile(r"\b[0-9a-fA-F]{64}\b"),  # or of hexadecimal digits
    re.compile(r"-----BEGIN [^-]+-----.*?(?:-----END [^-]+-----|\Z)", re.DOTALL),
)


def run(config: DiagConfig, plugins: Plugins) -> int:
    """Print the diagnosis. A part that fails says so in its place."""
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "versions": _versions,
        "plugins": partial(_plugins, plugins),
        **{f"options of lane {command}": partial(_options, command) for command in BOTH},
        "running client": partial(_client, config.control),
        "running server": partial(_server, config.state_dir),
        "system": _system,
    }
    print("A diagnosis for a bug report. Keys, links and passwords are removed; addresses are not.")
    for title, part in parts.items():
        print(f"\n## {title}\n")
        try:
            lines = list(part())
        except ENDS as error:
            lines = [str(error)]
        except Exception as error:  # the rest of the diagnosis is wanted all the more
            lines = [f"failed: {describe(error)}"]
        for line in without_secrets("\n".join(lines)).splitlines():
            print(printable(line))
    sys.stdout.flush()
    return 0


def without_secrets(text: str) -> str:
    """`text` without what looks like a secret."""
    for pattern in _SECRETS:
        text = pattern.sub(HIDDEN, text)
    return text


def _versions() -> Iterator[str]:
    import ssl  # noqa: PLC0415 - it takes 10 ms, and only its version is wanted

    yield f"lane {lane.__version__} ({build()}), in {Path(lane.__file__).parent}"
    yield f"Python {platform.python_version()} ({platform.python_implementation()}), {ssl.OPENSSL_VERSION}"
    yield ", ".join(f"{name} {_version(name)}" for name in LIBRARIES)


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _plugins(plugins: Plugins) -> Iterator[str]:
    for one in plugins.loaded:
        yield f"{one.name} {one.version or '-'} ({one.where}): {', '.join(one.transports) or 'no transport'}"
    for error in plugins.errors:
        yield f"error: {error}"


def _options(command: str) -> Iterator[str]:
    """The options that are not at their default, with their source."""
    warnings: list[str] = []
    namespace, _ = option_parser.parse(command, [], warnings.append)
    yield f"files: {', '.join(map(str, namespace.files)) or 'none'}"
    for option in options_of(command):
        if option.kind != "file" and _is_set(namespace, option, command):
            source = namespace.sources.get(option.dest, "the command line")
            yield f"{option.name} = {_shown(option, getattr(namespace, option.dest))}  ({source})"
    known = {option.dest for option in options_of(command)}
    for name in sorted(namespace.sources.keys() - known):
        yield f"{name.replace('_', '-')} = {HIDDEN}, of a plugin  ({namespace.sources[name]})"
    yield from (f"warning: {warning}" for warning in warnings)


def _is_set(namespace: Namespace, option: Option, command: str) -> bool:
    value = getattr(namespace, option.dest)
    return bool(value) and value != option.default_of(command)


def _shown(option: Option, value: str | list[str]) -> str:
    if option.secret is None:
        return ", ".join(value) if isinstance(value, list) else value
    text = value if isinstance(value, str) else ""
    return text if re.fullmatch(r"@[^@:]+|embedded", text) else HIDDEN


def _client(control: Path | None) -> Iterator[str]:
    for snapshot in ask(control or why_config(_parsed("why")).control):
        yield why_report.whole(snapshot)


def _server(state_dir: Path | None) -> Iterator[str]:
    folder = state_dir or status_config(_parsed("status")).state_dir
    for snapshot in ask(server_path(folder), who="server", named=True):
        yield status.report(snapshot)


def _parsed(command: str) -> Namespace:
    """The options of `command` that files and variables set."""
    return option_parser.parse(command, [], lambda _: None)[0]


def _system() -> Iterator[str]:
    yield f"{platform.platform()}, {os.cpu_count()} cores"
    try:
        release = platform.freedesktop_os_release()
        yield release.get("PRETTY_NAME", "")
    except OSError:
        pass
    names = sorted(name for name in os.environ if name.startswith(PREFIX))
    yield f"variables: {', '.join(names) or 'none'}"
    for finding in kernel.findings():
        yield f"{finding.state}: {finding.text}{f' -> {finding.mend}' if finding.mend else ''}"
