"""Whether this installation is compiled: `lane --version` says it.

Some modules that ship with lane are built where there is a compiler. Elsewhere Python code does the same
work. They are named here, although one belongs to a plugin: to look for entry points would take this command
half as long again.
"""

from importlib import import_module

MODULES = ("lane_quic.fastpath.native",)
"""Those of setup.py."""


def build() -> str:
    """`compiled` if all of `MODULES` load, else `portable`."""
    try:
        for name in MODULES:
            import_module(name)
    except ImportError:
        return "portable"
    return "compiled"
