"""The entry point of `lane` and `python -m lane`.

Nothing is monkey-patched. lane uses gevent's own sockets and events, and needs real threads beside them. If a
patch were ever needed, only this module would be early enough for it.
"""

import sys

import gevent

from lane import cli


def main() -> None:
    """Run the command line and end the process with its exit status."""
    gevent.config.track_greenlet_tree = False  # the tree takes 3 KB a session, and only debuggers use it
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
