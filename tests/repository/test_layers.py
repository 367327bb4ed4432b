"""Imports point one way: each room of the house may use the storeys below it, and none beside it."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
STOREYS = [
    # `lane` itself is only the version and hookimpl
    {
        "lane",
        "lane.errors",
        "lane.fair",
        "lane.tasks",
        "lane.census",
        "lane.text",
        "lane.heap",
        "lane.budget",
    },
    {"lane.address", "lane.files", "lane.log"},
    {"lane.supervisor", "lane.values"},
    {"lane.net", "lane.watchdog", "lane.meeting"},
    {"lane.proto", "lane.stream", "lane.link", "lane.via", "lane.control"},
    {"lane.hookspecs", "lane.certs", "lane.tcp_info"},
    {"lane.session", "lane.egress", "lane.plugins", "lane.state"},
    {"lane.carriers", "lane.config", "lane.testing"},
    {"lane.inbound", "lane.server"},
    {"lane.cli"},
    {"lane.__main__"},
]
STOREY = {room: number for number, rooms in enumerate(STOREYS) for room in rooms}
FOR_PLUGINS = {
    "lane", "lane.stream", "lane.errors", "lane.address", "lane.hookspecs", "lane.tcp_info", "lane.census",
    "lane.supervisor", "lane.net", "lane.fair", "lane.testing",
}  # fmt: skip
SOURCES = [*sorted((ROOT / "lane").rglob("*.py")), *sorted((ROOT / "plugins").rglob("*.py"))]


def module_of(path: Path) -> str:
    top = ROOT / "plugins" if ROOT / "plugins" in path.parents else ROOT
    return ".".join(path.relative_to(top).with_suffix("").parts).removesuffix(".__init__")


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def is_module(name: str) -> bool:
    path = ROOT.joinpath(*name.split("."))
    return path.with_suffix(".py").exists() or path.is_dir()


def imports(source: str) -> Iterator[str]:
    """The modules that `source` imports, wherever in it. Relative imports stay within a room: `.`."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, "a relative import leaves its package"
            for alias in node.names if not node.level else ():
                name = f"{node.module}.{alias.name}"
                yield name if is_module(name) else node.module


def may_import(module: str, name: str) -> bool:
    top, mine = (each.partition(".")[0] for each in (name, module))
    if top != "lane" and not top.startswith("lane_"):
        return True  # not ours
    if mine != "lane":
        return top == mine or room(name) in FOR_PLUGINS
    if top != "lane":
        return False  # the core knows no plugin
    if room(name) == room(module):
        return True
    if room(name) == "lane.testing":
        return False  # for tests and plugins
    if room(module) == "lane.config" and STOREY[room(name)] == STOREY["lane.egress"]:
        return name in ("lane.egress.policy", "lane.egress.rules")  # only how rules are written
    return STOREY[room(name)] < STOREY[room(module)]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_one_way(path):
    module = module_of(path)
    assert [name for name in imports(path.read_text()) if not may_import(module, name)] == []


@pytest.mark.parametrize(
    ("module", "source", "good"),
    [
        ("lane.address", "from lane.errors import LaneError", True),
        ("lane.errors", "from lane import address", False),
        ("lane.proto.hello", "def f():\n    import lane.session.relay", False),
        ("lane.proto.hello", "from .frames import x", True),
        ("lane.session.relay", "from lane import carriers", False),
        ("lane.testing.contract", "from lane.session import relay", True),
        ("lane.session.relay", "from lane import testing", False),
        ("lane.inbound.socks", "import lane.server", False),
        ("lane.config", "from lane.egress.policy import Rule", True),
        ("lane.config", "from lane.egress.dialer import Dialer", False),
        ("lane.server.server", "from lane_quic import plugin", False),
        ("lane_tls.carrier", "from lane import hookimpl, stream\nfrom lane.testing.tcp import x", True),
        ("lane_tls.carrier", "from lane.session.sockets import x", False),
        ("lane_tls.carrier", "from lane_quic import x", False),
        ("lane_tls.carrier", "from .plugin import x\nimport lane_tls.plugin, os", True),
    ],
)
def test_the_check_itself(module, source, good):
    assert all(may_import(module, name) for name in imports(source)) == good
