"""lane at a terminal of 24 lines of 80 columns."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading


def at_terminal(*arguments, timeout=100):
    """Run lane with `arguments`: its exit status, and all that the terminal was sent."""
    ours, its = pty.openpty()
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    said = bytearray()

    def read():
        try:
            while more := os.read(ours, 65536):
                said.extend(more)
        except OSError:
            pass  # EIO: the other end is closed

    reader = threading.Thread(target=read)
    reader.start()
    command = [sys.executable, "-m", "lane", *map(str, arguments)]
    result = subprocess.run(command, stdin=its, stdout=its, stderr=its, check=False, timeout=timeout)
    os.close(its)
    reader.join()
    os.close(ours)
    return result.returncode, said.decode()
