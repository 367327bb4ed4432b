"""Every wait has a limit, or says on its line, or above it, why it needs none: `# no limit: REASON`."""

import ast
from pathlib import Path

import pytest

from tests.support.sources import SOURCES, findings

WATCHED = [path for path in SOURCES if "testing" not in path.parts]  # every test has a watchdog
WAITING = {"acquire", "get", "join", "result", "wait", "wait_available"}
ENDING = {"joinall", "kill", "killall"}
LOCKS = {"BoundedSemaphore", "Lock", "RLock", "Semaphore"}
LIMITING = {"Timeout", "deadline", "with_timeout"}
LEAST = 12
"""Characters of a reason."""


def last_name(node: ast.expr) -> str:
    """`c` of `a.b.c` and of `a.b.c()`."""
    if isinstance(node, ast.Call):
        return last_name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def locks(trees: list[ast.Module]) -> set[str]:
    """What attributes that are locks are called."""
    found = [node for tree in trees for node in ast.walk(tree) if isinstance(node, ast.Assign)]
    made = [node for node in found if isinstance(node.value, ast.Call) and last_name(node.value) in LOCKS]
    return {last_name(target) for node in made for target in node.targets}


def may_be_none(node: ast.expr) -> bool:
    return any(isinstance(one, ast.Constant) and one.value is None for one in ast.walk(node))


def is_unlimited(node: ast.AST, locks: set[str]) -> bool:
    """Whether an expression waits for as long as it takes."""
    if isinstance(node, ast.With):
        return any(last_name(item.context_expr) in locks for item in node.items)
    if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
        return False
    name, owner = node.func.attr, last_name(node.func.value)
    given = {keyword.arg: keyword.value for keyword in node.keywords}
    limits = [*node.args, *(given[one] for one in ("timeout",) if one in given)]
    if name in WAITING:
        if owner in ("hub", "_hub"):
            return True
        limits = limits[1:] if owner == "gevent" else limits  # `gevent.wait` has the objects first
        return not limits or ((name != "get" or not node.args) and may_be_none(limits[0]))
    if name in ENDING:
        limits = limits[1:] if name in ("joinall", "killall") else limits
        return not limits and "block" not in given
    return False


def unlimited(tree: ast.Module, locks: set[str]) -> set[ast.stmt | ast.expr]:
    """The expressions of a module that wait without a limit, but for those within one."""

    def walk(node: ast.AST, limited: bool) -> None:
        if isinstance(node, ast.With):
            limited = limited or any(last_name(item.context_expr) in LIMITING for item in node.items)
        elif isinstance(node, ast.FunctionDef | ast.Lambda):
            limited = False  # it may be called elsewhere
        if not limited and is_unlimited(node, locks):
            assert isinstance(node, ast.stmt | ast.expr)
            found.add(node)
        for child in ast.iter_child_nodes(node):
            walk(child, limited)

    found: set[ast.stmt | ast.expr] = set()
    walk(tree, False)
    return found


def has_reason(lines: list[str], node: ast.stmt | ast.expr) -> bool:
    """Whether a comment on the line of an expression, or on those above it, says why it needs no limit."""
    above = node.lineno - 2
    while above >= 0 and lines[above].strip().startswith("#"):
        above -= 1
    last = node.lineno if isinstance(node, ast.With) else node.end_lineno
    text = " ".join(line.partition("#")[2].strip() for line in lines[above + 1 : last])
    return len(text.partition("no limit: ")[2].strip()) >= LEAST


def test_every_wait_has_a_limit_or_a_reason() -> None:
    trees = {path: ast.parse(path.read_text()) for path in WATCHED}
    all_locks = locks([*trees.values()])

    def without(path: Path) -> list[str]:
        lines = path.read_text().splitlines()
        found = [node for node in unlimited(trees[path], all_locks) if not has_reason(lines, node)]
        return [f"{node.lineno}: {lines[node.lineno - 1].strip()}" for node in found]

    assert findings(without, WATCHED) == {}


@pytest.mark.parametrize(
    ("code", "waits"),
    [
        ("event.wait()", True),
        ("event.wait(1.0)", False),
        ("event.wait(None if idle else 1.0)", True),
        ("event.wait(timeout=left)", False),
        ("table.get(key)", False),
        ("queue.get()", True),
        ("queue.get(timeout=1)", False),
        ("queue.get(timeout=1 if more else None)", True),
        ("' '.join(words)", False),
        ("greenlet.join()", True),
        ("gevent.joinall(some)", True),
        ("gevent.joinall(some, timeout=1)", False),
        ("gevent.wait([one, other], count=1)", True),
        ("gevent.wait([one, other], 1.0, 1)", False),
        ("self._hub.wait(watcher)", True),
        ("greenlet.kill()", True),
        ("greenlet.kill(block=False)", False),
        ("gevent.killall(some, timeout=1)", False),
        ("with self._lock:\n    pass", True),
        ("with gevent.Timeout(1):\n    event.wait()", False),
        ("with gevent.Timeout(1):\n    def later():\n        event.wait()", True),
        ("event.wait()  # no limit: the peer says when", False),
        ("event.wait()  # no limit: no", True),
        ("# no limit: the peer says when it has something,\n# and its death is noticed\nevent.wait()", False),
    ],
)
def test_what_waits_is_found(code: str, waits: bool) -> None:
    lines = code.splitlines()
    found = [node for node in unlimited(ast.parse(code), {"_lock"}) if not has_reason(lines, node)]
    assert bool(found) is waits
