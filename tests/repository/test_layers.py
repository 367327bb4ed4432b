"""Imports point one way: each room of the house may use the storeys below it, and none beside it. So do the
rooms of the QUIC transport, which has many; and nowhere do modules import each other in a circle.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from tests.support.sources import ROOT, SOURCES, findings

STOREYS = [
    # `lane` itself is only the version and hookimpl
    {
        "lane",
        "lane.errors",
        "lane.busy",
        "lane.deadline",
        "lane.fair",
        "lane.taken",
        "lane.tasks",
        "lane.text",
        "lane.heap",
        "lane.budget",
        "lane.memo",
        "lane.tally",
        "lane.tested",
    },
    {"lane.census"},
    {"lane.address", "lane.files", "lane.line_writer", "lane.shown"},
    {"lane.log"},
    {"lane.supervisor", "lane.values", "lane.vouching"},
    {"lane.net", "lane.watchdog", "lane.meeting"},
    {"lane.proto", "lane.stream", "lane.link", "lane.via", "lane.control", "lane.asking"},
    {"lane.users"},
    {"lane.hookspecs", "lane.certs", "lane.device", "lane.tcp_info"},
    {"lane.session", "lane.egress", "lane.plugins", "lane.state"},
    {"lane.carriers", "lane.config", "lane.testing"},
    {"lane.inbound", "lane.server"},
    {"lane.look", "lane.top"},
    {"lane.handover", "lane.admin"},
    {"lane.cli"},
    {"lane.__main__"},
]
QUIC_STOREYS = [
    {"lane_quic"},
    {"lane_quic.internals"},
    {"lane_quic.congestion", "lane_quic.trace"},
    {"lane_quic.configuration"},
    {"lane_quic.recovery", "lane_quic.stateless", "lane_quic.udp", "lane_quic.examination"},
    {"lane_quic.fastpath"},
    {"lane_quic.engine"},
    {"lane_quic.alarm", "lane_quic.stream"},
    {"lane_quic.streams"},
    {"lane_quic.runner"},
    {"lane_quic.carrier"},
    {"lane_quic.local_address"},
    {"lane_quic.handshake_queue"},
    {"lane_quic.endpoint", "lane_quic.listener"},
    {"lane_quic.plugin"},
]
STOREY = {
    room: number for house in (STOREYS, QUIC_STOREYS) for number, rooms in enumerate(house) for room in rooms
}
FOR_PLUGINS = {
    "lane", "lane.stream", "lane.errors", "lane.address", "lane.hookspecs", "lane.tcp_info", "lane.census",
    "lane.supervisor", "lane.net", "lane.fair", "lane.deadline", "lane.tasks", "lane.tested", "lane.testing",
    "lane.users",
}  # fmt: skip


def module_of(path: Path) -> str:
    top = ROOT / "plugins" if ROOT / "plugins" in path.parents else ROOT
    return ".".join(path.relative_to(top).with_suffix("").parts).removesuffix(".__init__")


def package_of(path: Path) -> str:
    return module_of(path.parent / "__init__.py")


def room(module: str) -> str:
    return ".".join(module.split(".")[:2])


def is_module(name: str) -> bool:
    paths = [top.joinpath(*name.split(".")) for top in (ROOT, ROOT / "plugins")]
    return any(path.with_suffix(".py").exists() or path.is_dir() for path in paths)


def imports(source: str, package: str) -> Iterator[str]:
    """The modules that `source`, a module of `package`, imports, wherever in it. Relative imports stay within
    a room: `.`.
    """
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level <= 1, "a relative import leaves its package"
            base = ".".join(filter(None, (package if node.level else "", node.module)))
            for alias in node.names:
                name = f"{base}.{alias.name}"
                yield name if is_module(name) else base


def may_import(module: str, name: str) -> bool:
    top, mine = (each.partition(".")[0] for each in (name, module))
    if top != "lane" and not top.startswith("lane_"):
        return True  # not ours
    if room(name) == room(module):
        return True
    if top == mine == "lane_quic":
        return STOREY[room(name)] < STOREY[room(module)]
    if mine != "lane":
        return top == mine or room(name) in FOR_PLUGINS
    if top != "lane":
        return False  # the core knows no plugin
    if room(name) == "lane.testing":
        return False  # for tests and plugins
    if room(module) == "lane.config" and STOREY[room(name)] == STOREY["lane.egress"]:
        return name in ("lane.egress.policy", "lane.egress.rules")  # only how rules are written
    return STOREY[room(name)] < STOREY[room(module)]


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Modules that import each other in a circle, the first one again as the last; empty if there are none.

    Imports within functions and for types alone count: they only hide a circle.
    """
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(reversed(error.args[1]))
    return []


def graph_of_imports() -> dict[str, set[str]]:
    return {module_of(path): {*imports(path.read_text(), package_of(path))} for path in SOURCES}


def test_imports_point_one_way():
    def wrong(path):
        names = imports(path.read_text(), package_of(path))
        return [name for name in names if not may_import(module_of(path), name)]

    assert findings(wrong) == {}


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
        ("lane_quic.engine.engine", "from lane_quic.fastpath import send", True),
        ("lane_quic.fastpath.send", "from lane_quic.engine.peer_limits import COSTLY", False),
        ("lane_quic.stream", "def f():\n    from lane_quic.carrier import QuicCarrier", False),
        ("lane_quic.listener", "from lane_quic import endpoint", False),
        ("lane_quic.engine.keys", "from lane.stream import x\nimport lane_quic.engine.sender", True),
    ],
)
def test_the_check_itself(module, source, good):
    assert all(may_import(module, name) for name in imports(source, module.rpartition(".")[0])) == good


def test_no_modules_import_each_other_in_a_circle():
    assert circle(graph_of_imports()) == []


def test_a_circle_is_found():
    assert circle({"a": {"b", "os"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) in (["b", "c", "b"], ["c", "b", "c"])
