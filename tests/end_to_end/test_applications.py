"""Applications through a real client and a real server, over each transport: every byte arrives."""

import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
import socks

from lane.testing.harness import until
from tests.support.origin import BIG, CONTENT, MB, read_to_end
from tests.support.processes import (
    DEADLINE,
    TRANSPORTS,
    Lane,
    connected,
    curl,
    echoes,
    file_sha256,
    http_connect,
    read_exactly,
    running_pair,
    sha256,
    socks5,
    start_client,
    start_server,
)

pytestmark = pytest.mark.bulk  # every process would be four times slower with the tracer

KINDS = ("socks5", "http")
ASYNC_CLIENT = """
import asyncio, hashlib, sys
from python_socks.async_.asyncio import Proxy

async def fetch(url, port, start, size):
    sock = await Proxy.from_url(url).connect("localhost", port, timeout=30)
    reader, writer = await asyncio.open_connection(sock=sock)
    writer.write(f"GET /{start}/{size} HTTP/1.0\\r\\n\\r\\n".encode())
    await reader.readuntil(b"\\r\\n\\r\\n")
    data = await reader.readexactly(size)
    writer.close()
    await writer.wait_closed()
    return hashlib.sha256(data).hexdigest()

async def main():
    url, port = sys.argv[1], int(sys.argv[2])
    print(*await asyncio.gather(*(fetch(url, port, n, 300_000) for n in range(20))))

asyncio.run(main())
"""


@pytest.fixture(scope="module", params=TRANSPORTS)
def proxy(request, tmp_path_factory):
    """The address of a client."""
    with running_pair(tmp_path_factory.mktemp(request.param), request.param) as (server, client):
        yield client.address
        assert client.stop() == 0
        assert server.stop() == 0
    for lane in (server, client):
        assert "Traceback" not in lane.stderr


@pytest.fixture(scope="module")
def big_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("upload") / "big"
    path.write_bytes(memoryview(CONTENT)[:BIG])
    return path


@pytest.mark.parametrize("kind", KINDS)
def test_curl_downloads_much(proxy, origin, tmp_path, big_file, kind):
    curl(proxy, kind, f"http://localhost:{origin.web}/0/{BIG}", "-o", tmp_path / "out")
    assert file_sha256(tmp_path / "out") == file_sha256(big_file)


@pytest.mark.parametrize(("kind", "host"), [("socks4", "127.0.0.1"), ("socks4a", "localhost")])
def test_curl_over_socks4(proxy, origin, tmp_path, kind, host):
    curl(proxy, kind, f"http://{host}:{origin.web}/0/{MB}", "-o", tmp_path / "out")
    assert file_sha256(tmp_path / "out") == sha256(CONTENT[:MB])


@pytest.mark.parametrize("kind", KINDS)
def test_curl_uploads_much(proxy, origin, big_file, kind):
    answer = curl(proxy, kind, f"http://localhost:{origin.web}/", "-T", big_file)
    assert answer.decode() == file_sha256(big_file)


@pytest.mark.parametrize("kind", KINDS)
def test_curl_50_in_parallel(proxy, origin, tmp_path, kind):
    size = 300_000
    url = f"http://localhost:{origin.web}/[0-49]/{size}"
    options = ["--parallel", "--parallel-immediate", "--parallel-max", 50]
    curl(proxy, kind, url, *options, "-o", tmp_path / "#1")
    for start in range(50):
        assert file_sha256(tmp_path / str(start)) == sha256(CONTENT[start : start + size])


@pytest.mark.parametrize("kind", [socks.SOCKS5, socks.HTTP], ids=KINDS)
def test_pysocks(proxy, origin, kind):
    with socks.socksocket() as sock:
        sock.settimeout(DEADLINE)
        sock.set_proxy(kind, *proxy)
        sock.connect(("localhost", origin.digest))
        sock.sendall(CONTENT[:MB])
        sock.shutdown(socket.SHUT_WR)
        assert read_to_end(sock) == sha256(CONTENT[:MB]).encode() + CONTENT[:MB]


@pytest.mark.parametrize("kind", KINDS)
def test_python_socks_with_asyncio(proxy, origin, kind):
    command = [sys.executable, "-c", ASYNC_CLIENT, f"{kind}://{proxy[0]}:{proxy[1]}", str(origin.web)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [sha256(CONTENT[n : n + 300_000]) for n in range(20)]


def test_git_clone(proxy, tmp_path):
    def git(*arguments, cwd=tmp_path):
        who = ["-c", "user.name=n", "-c", "user.email=e", "-c", f"http.proxy=socks5h://{proxy[0]}:{proxy[1]}"]
        return subprocess.check_output(["git", *who, *map(str, arguments)], cwd=cwd, timeout=60, text=True)

    work = tmp_path / "work"
    git("init", "-q", work)
    for number in range(20):
        (work / f"file{number}").write_bytes(CONTENT[number : number + 50_000])
        git("add", "-A", cwd=work)
        git("commit", "-q", "-m", f"change {number}", cwd=work)
    git("clone", "-q", "--bare", work, tmp_path / "bare.git")
    git("update-server-info", cwd=tmp_path / "bare.git")
    command = [sys.executable, "-u", "-m", "http.server", "-b", "127.0.0.1", "0", "-d", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as web:
        try:
            port = web.stdout.readline().split()[5]
            git("clone", "-q", f"http://localhost:{port}/bare.git", tmp_path / "copy")
        finally:
            web.kill()
    assert git("rev-parse", "HEAD", cwd=tmp_path / "copy") == git("rev-parse", "HEAD", cwd=work)
    git("fsck", "--full", "--strict", cwd=tmp_path / "copy")
    assert (tmp_path / "copy" / "file19").read_bytes() == CONTENT[19 : 19 + 50_000]


def test_200_short_connections_beside_a_long_download(proxy, origin):
    enough, progress = threading.Event(), []

    def download():
        with connected(proxy, origin.endless) as sock:
            while not enough.is_set():
                assert read_exactly(sock, 10 * MB) == CONTENT[: 10 * MB]
                progress.append(len(progress))

    def fetch(number):
        with connected(proxy, origin.web, "localhost") as sock:
            sock.sendall(f"GET /{number}/20000 HTTP/1.0\r\n\r\n".encode())
            return read_to_end(sock).partition(b"\r\n\r\n")[2] == CONTENT[number : number + 20_000]

    with ThreadPoolExecutor(17) as pool:
        long = pool.submit(download)
        try:
            assert all(pool.map(fetch, range(200)))
            assert not long.done()  # it was there all the time
        finally:
            enough.set()
        long.result(DEADLINE)
    assert progress


def test_half_close(proxy, origin):
    for size in (0, 1, 5 * MB):
        with connected(proxy, origin.digest) as sock:
            sock.sendall(CONTENT[:size])
            sock.shutdown(socket.SHUT_WR)
            assert read_to_end(sock) == sha256(CONTENT[:size]).encode() + CONTENT[:size]


def test_half_close_with_nc(proxy, origin):
    # BSD's nc alone has -X; GNU's and ncat's mean other things by these options.
    nc = shutil.which("nc.openbsd") or shutil.which("nc")
    usage = subprocess.run([nc, "-h"], capture_output=True, text=True, check=False) if nc else None
    if not usage or "OpenBSD" not in usage.stderr:
        pytest.skip("needs nc of OpenBSD (netcat-openbsd)")
    command = [nc, "-N", "-X", "5", "-x", f"{proxy[0]}:{proxy[1]}", "127.0.0.1", str(origin.digest)]
    answer = subprocess.run(command, input=CONTENT[:MB], capture_output=True, timeout=60, check=True).stdout
    assert answer == sha256(CONTENT[:MB]).encode() + CONTENT[:MB]


@pytest.mark.parametrize(
    ("host", "command", "code"),
    [
        ("127.0.0.1", 1, 5),  # refused
        ("10.255.255.1", 1, 2),  # not allowed
        ("nobody.invalid", 1, 4),  # host unreachable
        ("127.0.0.1", 9, 7),  # no such command
    ],
)
def test_the_application_gets_the_true_reply_code(proxy, origin, host, command, code):
    sock, reply = socks5(proxy, host, origin.closed, command)
    with sock:
        assert reply == code
        assert read_to_end(sock) == b""


@pytest.mark.parametrize(
    ("host", "status"), [("127.0.0.1", 502), ("10.255.255.1", 403), ("nobody.invalid", 502)]
)
def test_the_application_gets_the_true_http_status(proxy, origin, host, status):
    assert http_connect(proxy, f"{host}:{origin.closed}") == status
    assert http_connect(proxy, f"http://{host}:{origin.closed}/", "GET") == status


def test_a_target_that_resets_is_no_end_of_data(proxy):
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(DEADLINE)
        with connected(proxy, listener.getsockname()[1]) as sock:
            target, _ = listener.accept()
            target.sendall(b"part")
            assert read_exactly(sock, 4) == b"part"
            target.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            target.close()
            with pytest.raises(ConnectionError):
                read_to_end(sock)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_server_resolves_names(tmp_path, origin, transport):
    # It allows a name and not the address behind it: so the name itself has come to the server.
    with (
        start_server(tmp_path / "server", "--allow", f"localhost:{origin.echo}", allow=None) as server,
        start_client(tmp_path / "client", transport, server.link) as client,
    ):
        with connected(client.address, origin.echo, "localhost") as sock:
            assert echoes(sock)
        sock, reply = socks5(client.address, "127.0.0.1", origin.echo)
        sock.close()
        assert reply == 2


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_embedded_server(tmp_path, origin, transport):
    with Lane(tmp_path / "client", "--transport", transport, "--listen", "127.0.0.1:0") as client:
        client.ready()
        until(lambda: "try: curl" in client.stdout, client.describe)
        assert "from THIS machine" in client.stdout
        answer = curl(client.address, "socks5", f"http://localhost:{origin.web}/7/{MB}")
        assert answer == CONTENT[7 : 7 + MB]
        assert client.stop() == 0
        assert "Traceback" not in client.stderr
