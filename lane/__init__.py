"""lane: a tunnel proxy whose transports are plugins.

This package is the core. It knows no transport by name. A plugin needs two things from it: the `hookimpl`
marker below and the contract in `lane.stream`.
"""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    import pluggy

    hookimpl: pluggy.HookimplMarker


def __getattr__(name: str) -> Any:
    """Make `hookimpl` at its first use. Commands that load no plugin do not wait for pluggy."""
    if name != "hookimpl":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import pluggy  # noqa: PLC0415

    globals()[name] = marker = pluggy.HookimplMarker("lane")
    return marker
