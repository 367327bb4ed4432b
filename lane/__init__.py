"""lane: a tunnel proxy whose transports are plugins.

This package is the core. It knows no transport by name. A plugin needs two things from it: the `hookimpl`
marker below and the contract in `lane.stream`.
"""

import pluggy

__version__ = "0.1.0"

hookimpl = pluggy.HookimplMarker("lane")
