"""The server: a stream proves a key, names a target, and becomes a session with the target."""

from lane.server.server import Server

__all__ = ["Server"]
