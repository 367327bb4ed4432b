"""lane in a real terminal: tmux, which a test resizes, types into and looks at."""

import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

from lane.testing.harness import until
from tests.support.processes import DEADLINE

needs_tmux = pytest.mark.skipif(shutil.which("tmux") is None, reason="tmux is not installed")


class Terminal:
    """A shell in a window of tmux. `socket` is that of its own server."""

    def __init__(self, socket, columns, lines):
        self._socket = str(socket)
        # A shell without prompt and history, whose lines a test can tell from what lane draws.
        shell = "env PS1='$ ' TERM=screen-256color LANG=C.UTF-8 HISTFILE= sh"
        self._tmux("new-session", "-d", "-x", str(columns), "-y", str(lines), shell)

    def _tmux(self, *arguments):
        command = ["tmux", "-f", "/dev/null", "-S", self._socket, *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def type(self, *keys):
        self._tmux("send-keys", *keys)

    def lane(self, *arguments, after="; echo ended $?"):
        self.type(f"clear; {sys.executable} -m lane {' '.join(map(str, arguments))}{after}", "Enter")

    def resize(self, columns, lines):
        self._tmux("resize-window", "-x", str(columns), "-y", str(lines))

    @property
    def child(self):
        """The process that the shell runs."""
        shell = self._tmux("display-message", "-p", "#{pane_pid}").strip()
        with open(f"/proc/{shell}/task/{shell}/children") as file:
            return int(file.read().split()[0])

    def look(self):
        """What the window shows."""
        return self._tmux("capture-pane", "-p")

    def shows(self, *words):
        """Wait until the window has all of them. Returns its lines."""
        seen = until(lambda: all(word in (text := self.look()) for word in words) and text, self.look)
        return seen.split("\n")

    def lacks(self, word):
        until(lambda: word not in self.look(), self.look)

    def close(self):
        self._tmux("kill-server")


@contextmanager
def terminal(folder, columns=80, lines=24):
    made = Terminal(folder / "tmux", columns, lines)
    try:
        yield made
    finally:
        made.close()
