"""Servers whose users have limits, read from a file that a test may change at any time."""

import json

PLUGIN = """
import json, os
import gevent
from pathlib import Path
from lane.users import traffic
from lane.users.users import Users

folder = Path(os.environ["LANE_TEST_LIMITS"])
made = traffic.Traffic.__init__
counting = []

def make(self, *how, **more):
    made(self, *how, **more)
    counting.append(self)
    gevent.spawn(watch, self)

def limits(self, user):
    return traffic.Limits(**json.loads((folder / "limits").read_text()))

def exhausted(self, user):
    (folder / "spent").write_text(json.dumps(counting[0].of(user).total))

def watch(self):
    before = None
    while True:
        if (now := (folder / "limits").stat().st_mtime_ns) != before:
            before = now
            self.changed()
        gevent.sleep(0.05)

traffic.Traffic.__init__ = make
Users.limits, Users.exhausted = limits, exhausted
"""


class Limited:
    """The limits of all users (`lane.users.traffic.Limits`), and the options of a server that has them."""

    def __init__(self, folder, **limits):
        self._folder = folder
        (folder / "plugins").mkdir(parents=True)
        (folder / "plugins" / "lane_limits.py").write_text(PLUGIN)
        self.options = ("--plugin-dir", folder / "plugins")
        self.env = {"LANE_TEST_LIMITS": str(folder)}
        self.set(**limits)

    def set(self, **limits):
        """Replace all limits. Running servers see it soon."""
        new = self._folder / "new"
        new.write_text(json.dumps(limits))
        new.replace(self._folder / "limits")

    @property
    def spent(self):
        """What the user had moved (up, down) when the quota was spent; None before."""
        file = self._folder / "spent"
        return json.loads(file.read_text() or "null") if file.exists() else None
