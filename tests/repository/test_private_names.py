"""What is private in a library is touched in one room, which lists it; and the listed names are there.

A private name is one with an underscore before it. Outside of a room code may use those that lane itself
defines, on its own objects. So `self._x` is lane's own where aioquic's classes have no `_x`, and `other._x`
where the same file defines it.
"""

import ast
import inspect
import pkgutil

import lane_quic
import pytest
from lane_quic.internals.aliases import Aliased
from lane_quic.internals.support import TESTED as AIOQUIC
from lane_quic.internals.support import relied_on
from lane_tls import openssl

from lane import supervisor
from lane.net import accept
from tests.support.sources import ROOT, findings

ROOMS = {
    "plugins/lane_quic/internals": {name for _, name in relied_on()},
    "plugins/lane_tls/openssl.py": {*openssl.CONNECTION, *openssl.CONTEXT, "_lib", "_ffi"},
    "lane/net/accept.py": {accept.SOCKET},
    "lane/supervisor.py": {*supervisor.GREENLET},
}
"""Where private names of libraries are touched, and which."""
STANDARD = {"_exit", "_current_frames", "_replace", "_AppendAction"}
"""Of Python's own library: documented, or (the last) for want of anything else."""


def is_private(name):
    return name.startswith("_") and not name.endswith("__")


def room_of(path):
    return next((room for room in ROOMS if path.is_relative_to(ROOT / room)), None)


def defined(tree):
    """The private names that a file defines: functions, classes, and what it assigns, to `self` as well."""
    found = set()
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                found.add(name)
            case ast.Name(id=name, ctx=ast.Store()):
                found.add(name)
            case ast.Attribute(value=ast.Name(id="self"), attr=name, ctx=ast.Store()):
                found.add(name)
    return {name for name in found if is_private(name)}


def foreign(source):
    """The private names that `source` uses and does not own."""
    tree = ast.parse(source)
    own = defined(tree) | STANDARD
    used = set()
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls")):
                pass  # see the test of classes
            case ast.Attribute(attr=name):
                used.add(name)
            case ast.ImportFrom(module=module, names=names):
                used |= {*(module or "").split("."), *(alias.name for alias in names)}
            case ast.Import(names=names):
                used |= {part for alias in names for part in alias.name.split(".")}
            case ast.Call(func=ast.Name(id="getattr" | "setattr" | "hasattr" | "attrgetter"), args=args):
                used |= {
                    arg.value for arg in args if isinstance(arg, ast.Constant) and isinstance(arg.value, str)
                }
    return {name for name in used if is_private(name)} - own


def test_private_names_of_libraries_are_used_in_their_rooms_only():
    wrong = findings(lambda path: foreign(path.read_text()) - ROOMS.get(room_of(path), set()))
    assert wrong == {}, "give it a public name in the room of its library"


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("x = connection._loss", {"_loss"}),
        ("connection._loss = None", {"_loss"}),
        ("super()._initialize(cid)", {"_initialize"}),
        ("getattr(greenlet, '_run', None)", {"_run"}),
        ("from aioquic._crypto import AEAD", {"_crypto"}),
        ("from aioquic.tls import _x", {"_x"}),
        ("import aioquic._buffer as b", {"_buffer"}),
        ("class A:\n def f(self, other): self._x = other._x", set()),
        ("class A:\n def _f(self): ...\ndef g(a): a._f(); a.__class__", set()),
        ("self._x", set()),
    ],
)
def test_the_check_itself(source, found):
    assert foreign(source) == found


def bases(one):
    return [base for base in one.__mro__ if base.__module__.startswith("aioquic.")]


def classes():
    """lane's classes that derive from a class of aioquic's."""
    for info in pkgutil.walk_packages(lane_quic.__path__, "lane_quic."):
        module = __import__(info.name, fromlist=["_"])
        for _, one in inspect.getmembers(module, inspect.isclass):
            if one.__module__ == info.name and any(
                each.__module__.startswith("aioquic.") for each in one.__mro__[1:]
            ):
                yield one


def theirs(one):
    """The private names that a class of lane's inherits from aioquic: found in the source of its bases."""
    found = set()
    for base in bases(one):
        for node in ast.walk(ast.parse(inspect.getsource(base))):
            match node:
                case ast.Attribute(value=ast.Name(id="self"), attr=name) | ast.FunctionDef(name=name):
                    found.add(name)
    return {name for name in found if is_private(name)}


def touched(one):
    """The private names that the source of a class uses on itself or defines."""
    tree = ast.parse(inspect.getsource(one))
    found = defined(tree)
    for node in ast.walk(tree):
        match node:
            case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name):
                found.add(name)
    return {name for name in found if is_private(name)}


CLASSES = [one for one in classes() if not one.__module__.startswith("lane_quic.internals.")]


def is_aliased(one):
    return issubclass(one, Aliased)


def test_there_are_such_classes():
    assert {"Engine", "Sender", "Assembler", "Recovery", "ReceivedPackets", "Trace"} <= {
        one.__name__ for one in CLASSES
    }


@pytest.mark.parametrize("one", CLASSES, ids=lambda one: one.__name__)
def test_classes_built_on_aioquics_use_its_public_names_only(one):
    assert not touched(one) & theirs(one)


@pytest.mark.parametrize(
    "one", [one for one in CLASSES if issubclass(one, Aliased)], ids=lambda one: one.__name__
)
def test_no_public_name_is_taken_for_something_else(one):
    """A method that is called as an alias overrides what aioquic calls by the private name."""
    for name, private in one.ALIASES.items():
        if name in vars(one):
            assert callable(vars(one)[name]), name
            assert vars(one)[private] is vars(one)[name]


def test_every_listed_name_is_used():
    """What is listed and of no use would turn the fast path off for nothing."""
    used = set()
    for path in (ROOT / "plugins" / "lane_quic").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Attribute(attr=name):
                    used.add(name)
                case ast.FunctionDef(name=name) if room_of(path) is None:
                    used.add(name)
                case ast.Call(func=ast.Name(id="attrgetter"), args=args):
                    used |= {arg.value for arg in args}
    public = {private: name for one in filter(is_aliased, CLASSES) for name, private in one.ALIASES.items()}
    assert not {name for _, name in relied_on() if not used & {name, public.get(name)}}


def test_the_locked_versions_are_those_that_were_tested():
    lines = (ROOT / "locks/run.txt").read_text().splitlines()
    locked = dict(line.split()[0].split("==") for line in lines if "==" in line)
    known = {"aioquic": AIOQUIC, "pyopenssl": openssl.TESTED, "gevent": supervisor.GEVENT}
    for package, versions in known.items():
        assert any(locked[package].startswith(f"{version}.") for version in versions), f"add it: {package}"
