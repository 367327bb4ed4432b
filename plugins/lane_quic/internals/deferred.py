"""Modules that a library imports, and that lane does not need it to run.

Such a module is imported when one of its attributes is used. So if the library does need it some day, it
works as before. `importlib.util.LazyLoader` is meant for this, but before Python 3.12 an `import` statement
ends its wait.
"""

import importlib
import sys
from types import ModuleType
from typing import Any


def defer(name: str) -> None:
    """Let the next `import name` take effect at the first use of the module. Does nothing if it is loaded."""
    if name in sys.modules:
        return
    stand_in = ModuleType(name)

    def load(attribute: str) -> Any:
        if sys.modules.get(name) is stand_in:
            del sys.modules[name]
        return getattr(importlib.import_module(name), attribute)

    vars(stand_in)["__getattr__"] = load
    sys.modules[name] = stand_in
