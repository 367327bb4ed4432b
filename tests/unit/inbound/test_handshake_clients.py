"""The inbound with real clients: curl and PySocks."""

import gevent
import gevent.subprocess
import pytest
import socks
from gevent.pywsgi import WSGIServer

from lane.errors import Status, TargetError
from tests.support.inbound import LOGIN, Direct, raising, running

PAGE = bytes(range(256)) * 4096  # 1 MB


@pytest.fixture
def web():
    def application(environ, respond):
        body = environ["wsgi.input"].read() if environ["REQUEST_METHOD"] == "POST" else PAGE
        respond("200 OK", [("Content-Length", str(len(body)))])
        return [body]

    server = WSGIServer(("127.0.0.1", 0), application, log=None)
    server.start()
    yield server
    server.stop()


@pytest.mark.parametrize("login", [None, LOGIN])
@pytest.mark.parametrize(
    "options", [["--socks5-hostname"], ["--proxytunnel", "--proxy"]], ids=["socks5", "http"]
)
def test_curl(web, options, login):
    url = f"http://localhost:{web.server_port}/"
    names = []

    def connect(target):
        names.append(target.host)
        return Direct(target)

    with running(connect, credentials=login) as inbound:
        command = ["curl", "-q", "-sS", "--noproxy", "", *options, str(inbound.address), url]
        command += ["--proxy-user", "user:secret"] if login else []
        assert gevent.subprocess.check_output(command, timeout=30) == PAGE
        upload = [*command, "--data-binary", "@-", "-H", "Expect:"]
        assert gevent.subprocess.run(upload, input=PAGE, stdout=-1, timeout=30, check=True).stdout == PAGE
    assert names == ["localhost", "localhost"]


@pytest.mark.parametrize(
    ("option", "expected"), [("--socks5-hostname", 97), ("--proxy", 56)], ids=["socks5", "http"]
)
def test_curl_learns_the_reason(option, expected):
    with running(raising(TargetError(Status.NOT_ALLOWED, "not allowed"))) as inbound:
        command = ["curl", "-q", "-sSv", "--noproxy", "", "--proxytunnel", option, str(inbound.address)]
        result = gevent.subprocess.run([*command, "http://example.com/"], stderr=-1, timeout=30, check=False)
    assert result.returncode == expected
    assert b"(2)" in result.stderr or b"403" in result.stderr


@pytest.mark.parametrize("kind", [socks.SOCKS5, socks.HTTP])
def test_pysocks(web, kind):
    def fetch(inbound):
        with socks.socksocket() as sock:
            sock.settimeout(10)
            sock.set_proxy(kind, *inbound.address, username="user", password="secret")
            sock.connect(("localhost", web.server_port))
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            data = b""
            while more := sock.recv(65536):
                data += more
            return data.partition(b"\r\n\r\n")[2]

    with running(Direct, credentials=LOGIN) as inbound:
        assert gevent.get_hub().threadpool.apply(fetch, (inbound,)) == PAGE
