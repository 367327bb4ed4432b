"""The entry point of `lane` and `python -m lane`.

Nothing is monkey-patched. lane uses gevent's own sockets and events, and needs real threads beside them. If a
patch were ever needed, only this module would be early enough for it.
"""

import gc
import os
import sys

from lane import cli


def main() -> None:
    """Run the command line and end the process with its exit status."""
    # The tree of greenlets takes 3 KB a session, and only debuggers use it. gevent is not imported yet.
    os.environ["GEVENT_TRACK_GREENLET_TREE"] = "false"
    gc.disable()  # modules stay, so that searching for garbage between imports is in vain; commands end this
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
