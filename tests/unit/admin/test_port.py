import os
import stat

import pytest
from gevent import socket

from lane.address import Address
from lane.admin.port import Place
from lane.admin.web import Response, Route
from lane.errors import ConfigError

ROUTES = {("GET", "/"): Route(lambda request: Response(b"hello"))}


def ask(family, where):
    with socket.socket(family) as sock:
        sock.connect(where)
        sock.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return sock.recv(4096).split()[1]


def test_a_port_needs_a_secret_and_a_socket_of_the_owner_does_not(tmp_path):
    place = Place(Address("127.0.0.1", 0))
    web = place.open(ROUTES, None)
    assert ask(socket.AF_INET, ("127.0.0.1", web.port)) == b"403"
    assert place.name == f"127.0.0.1:{web.port}"
    web.close()
    place.close()
    tmp_path.chmod(0o700)
    place = Place(tmp_path / "admin.sock")
    web = place.open(ROUTES, None)
    assert ask(socket.AF_UNIX, str(tmp_path / "admin.sock")) == b"200"
    assert place.name == f"unix:{tmp_path / 'admin.sock'}"
    assert stat.S_IMODE(os.stat(tmp_path / "admin.sock").st_mode) == 0o600
    with pytest.raises(ConfigError, match="another process listens there"):
        Place(tmp_path / "admin.sock")
    web.close()
    place.close()
    assert not (tmp_path / "admin.sock").exists()
