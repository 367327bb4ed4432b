"""What goes wrong is said again as it was, and nothing that lives on keeps an exception that was raised."""

import ast
import builtins

import pytest

from lane import errors
from lane.errors import Closed, Failure, LaneError, Refused, Reset, Status, TargetError
from tests.support.sources import findings

EXCEPTIONS = {
    name
    for module in (builtins, errors)
    for name, found in vars(module).items()
    if isinstance(found, type) and issubclass(found, BaseException)
}
HARMLESS = {"Failure", "type", "Callable"}
"""What may be written around the name of an exception: it is no exception then."""
KEEPING = {"add", "append", "appendleft", "insert", "put", "put_nowait", "set", "set_exception", "setdefault"}
"""Methods of what keeps its arguments."""


class Foreign(Closed):
    """As a plugin may have it: its constructor wants something else than it hands on."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host} left")
        self.port = port


RAISED = [
    Closed("gone"),
    Closed(),
    Reset(7, "aborted"),
    Refused("no"),
    TargetError(Status.REFUSED, "connection refused"),
    Foreign("there", 7),
    ConnectionResetError(104, "Connection reset by peer"),
]


@pytest.mark.parametrize("error", RAISED, ids=lambda error: type(error).__name__)
def test_a_failure_says_what_the_error_said(error: Exception) -> None:
    failure = Failure.of(error)
    for _ in range(2):
        built = failure.build()
        assert type(built) is type(error)
        assert (str(built), built.args, vars(built)) == (str(error), error.args, vars(error))
        assert getattr(built, "errno", None) == getattr(error, "errno", None)
    assert str(failure) == str(error)


def depth(error: BaseException) -> int:
    """How many frames an exception holds."""
    count, traceback = 0, error.__traceback__
    while traceback is not None:
        count, traceback = count + 1, traceback.tb_next
    return count


def test_what_is_raised_from_a_failure_holds_nothing_of_the_time_before() -> None:
    def caught(failure: Failure[LaneError]) -> LaneError:
        try:
            raise failure.build()
        except LaneError as error:
            return error

    try:
        try:
            raise OSError("why")
        except OSError:
            raise Closed("gone") from None
    except Closed as error:
        failure: Failure[LaneError] = Failure.of(error)
    assert caught(failure).__context__ is None
    assert [depth(caught(failure)) for _ in range(3)] == [1, 1, 1]


def exceptions_in(node: ast.expr | None) -> set[str]:
    """The exceptions that an annotation names as what is there."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        node = ast.parse(node.value, mode="eval").body
    if node is None or (isinstance(node, ast.Subscript) and ast.unparse(node.value) in HARMLESS):
        return set()
    if isinstance(node, ast.Name | ast.Attribute):
        return {ast.unparse(node).rpartition(".")[2]} & EXCEPTIONS
    parts = [one for one in ast.iter_child_nodes(node) if isinstance(one, ast.expr)]
    return set().union(*map(exceptions_in, parts))


def is_kept(name: str, node: ast.AST) -> bool:
    """Whether the value of an expression is the exception called `name`, or has it in it as it is."""
    if isinstance(node, ast.Name):
        return node.id == name
    if isinstance(node, ast.Call | ast.Attribute | ast.Compare | ast.JoinedStr | ast.Lambda):
        return False  # something that is made of it
    return any(is_kept(name, child) for child in ast.iter_child_nodes(node))


def keeps(name: str, body: list[ast.stmt]) -> list[int]:
    """The lines on which the exception called `name` is put into something that may live on."""
    lines = []
    for node in (node for statement in body for node in ast.walk(statement)):
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            outlives = any(isinstance(target, ast.Attribute | ast.Subscript) for target in targets)
            if outlives and node.value is not None and is_kept(name, node.value):
                lines.append(node.lineno)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", None) in KEEPING:
            lines += [node.lineno for argument in node.args if is_kept(name, argument)]
    return lines


def violations(source: str) -> list[int]:
    """The lines on which an object is said, or made, to keep an exception."""
    lines = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = node.body if isinstance(node, ast.Module | ast.ClassDef) else []
        fields = [one for one in body if isinstance(one, ast.AnnAssign)]
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Attribute):
            fields.append(node)
        lines += [field.lineno for field in fields if exceptions_in(field.annotation)]
        if isinstance(node, ast.ExceptHandler) and node.name:
            lines += keeps(node.name, node.body)
        elif isinstance(node, ast.FunctionDef):
            arguments = [*node.args.args, *node.args.kwonlyargs]
            for argument in [one for one in arguments if exceptions_in(one.annotation)]:
                lines += keeps(argument.arg, node.body)
    return lines


def test_no_object_keeps_an_exception() -> None:
    assert findings(lambda path: violations(path.read_text())) == {}


@pytest.mark.parametrize(
    "source",
    [
        "class A:\n    error: 'LaneError | None' = None",
        "class A:\n    def f(self):\n        self.error: Closed | None = None",
        "class A:\n    def f(self):\n        self.errors: list[tuple[int, OSError]] = []",
        "class A:\n    def fail(self, why: Closed):\n        self.why = self.why or why",
        "try:\n    f()\nexcept LaneError as error:\n    self.error = error",
        "try:\n    f()\nexcept LaneError as error:\n    results.put((1, error))",
        "try:\n    f()\nexcept LaneError as error:\n    result.set_exception(error)",
    ],
)
def test_what_keeps_an_exception_is_found(source: str) -> None:
    assert violations(source)
