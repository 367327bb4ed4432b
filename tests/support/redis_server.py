"""A real redis-server, that tests may kill and start again."""

import shutil
import socket
import subprocess

import pytest

from lane.testing.harness import until


class RedisServer:
    """It keeps its data in `folder` if it `keeps` them at all."""

    def __init__(self, folder, port, *, keeps=True):
        if not shutil.which("redis-server"):
            pytest.skip("redis-server is not installed")
        folder.mkdir()
        self.address = "127.0.0.1", port
        self.url = f"redis://127.0.0.1:{port}/0"
        self._command = [
            "redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", "",
            "--appendonly", "yes" if keeps else "no", "--appendfsync", "always",
        ]  # fmt: skip
        self.start()

    def start(self):
        self.process = subprocess.Popen(self._command, stdout=subprocess.DEVNULL)
        until(self._answers)

    def _answers(self):
        try:
            with socket.create_connection(self.address, 10) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(5) == b"+PONG"
        except OSError:
            return False

    def kill(self):
        self.process.kill()
        self.process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()
