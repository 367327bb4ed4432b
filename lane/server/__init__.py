"""The server: streams come in, prove their key, name a target, and become sessions with it."""

from lane.server.server import Server

__all__ = ["Server"]
