"""The entry point of `lane` and `python -m lane`.

If anything ever had to be monkey-patched, this would be the only place early enough to do it. Nothing
must: lane uses gevent's own sockets and events, and needs real threads beside them.
"""

import sys

import gevent

from lane import cli


def main() -> None:
    """Run the command line and end the process with its exit status."""
    gevent.config.track_greenlet_tree = False  # who spawned whom: 3 KB a session, for debuggers only
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
