"""Applications that know `http_proxy` only, through a real client and server over each transport."""

import os
import socket
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager

import pytest

from tests.support.origin import BIG, CONTENT, MB
from tests.support.processes import TRANSPORTS, file_sha256, running_pair, sha256

pytestmark = pytest.mark.bulk  # every process would be four times slower with the tracer


@pytest.fixture(scope="module", params=TRANSPORTS)
def proxy(request, tmp_path_factory):
    """The URL of a client."""
    with running_pair(tmp_path_factory.mktemp(request.param), request.param) as (server, client):
        yield "http://{}:{}".format(*client.address)
        assert client.stop() == 0
        assert server.stop() == 0
    for lane in (server, client):
        assert "Traceback" not in lane.stderr


@contextmanager
def web_server(folder):
    """The port of Python's own web server, which serves the files of `folder`."""
    command = [sys.executable, "-u", "-m", "http.server", "-b", "127.0.0.1", "0", "-d", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as web:
        try:
            yield web.stdout.readline().split()[5]
        finally:
            web.kill()


def run(proxy, *command, **how):
    """What a command prints that has nothing but the variable."""
    clean = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    env = {**clean, "http_proxy": proxy, "HOME": "/nonexistent"}
    result = subprocess.run(
        [str(part) for part in command], env=env, capture_output=True, timeout=100, check=False, **how
    )
    assert result.returncode == 0, (command, result.stdout, result.stderr)
    return result.stdout


def curl(proxy, *arguments, **how):
    return run(proxy, "curl", "-q", "-sSf", *arguments, **how)


def test_curl_downloads_and_uploads_much(proxy, origin, tmp_path):
    url = f"http://localhost:{origin.web}/"
    big = tmp_path / "big"
    curl(proxy, f"{url}0/{BIG}", "-o", big)
    assert file_sha256(big) == sha256(memoryview(CONTENT)[:BIG])
    assert curl(proxy, url, "-T", big).decode() == file_sha256(big)
    with big.open("rb") as file:  # a pipe has no length: in chunks, behind `Expect: 100-continue`
        assert curl(proxy, url, "-T", "-", stdin=file).decode() == file_sha256(big)


def test_curl_uses_its_connection_again(proxy, origin):
    url = f"http://localhost:{origin.web}"
    shown = ["-w", "%{num_connects}"]
    assert curl(proxy, f"{url}/3/10", f"{url}/4/10", *shown) == CONTENT[3:13] + b"1" + CONTENT[4:14] + b"0"
    digest = sha256(b"abc").encode()
    assert curl(proxy, url, url, "-d", "abc", *shown) == digest + b"1" + digest + b"0"


def test_curl_sees_that_a_download_broke(proxy, tmp_path):
    script = (
        "import socket\n"
        "with socket.create_server(('127.0.0.1', 0)) as listener:\n"
        "    print(listener.getsockname()[1], flush=True)\n"
        "    sock, _ = listener.accept()\n"
        "    sock.recv(9999)\n"
        "    sock.sendall(b'HTTP/1.1 200 OK\\r\\n\\r\\npart')\n"
        "    input()\n"
        "    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b'\\1\\0\\0\\0\\0\\0\\0\\0')\n"
        "    sock.close()\n"
    )
    target = subprocess.Popen([sys.executable, "-c", script], stdin=-1, stdout=-1, text=True)
    with target:
        url = f"http://127.0.0.1:{target.stdout.readline().strip()}/"
        client = subprocess.Popen(
            ["curl", "-q", "-sSN", "-x", proxy, "--noproxy", "", url], stdout=-1, stderr=-1
        )
        with client:
            assert client.stdout.read(4) == b"part"
            target.communicate("\n")
            _, errors = client.communicate(timeout=30)
    assert client.returncode == 56, errors  # Recv failure: Connection reset by peer


def test_curl_gets_an_answer_as_a_device_writes_it(proxy):
    said = b"\r\nhttp/1.1  200\nX-Thing : a\n b\nnothing\nContent-Length : 2\n\nok"
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"

        def device():
            for _ in range(2):
                with listener.accept()[0] as sock:
                    while b"\r\n\r\n" not in sock.recv(65536, socket.MSG_PEEK):
                        pass
                    sock.recv(65536)
                    sock.sendall(said)
                    sock.recv(1)  # until lane leaves

        serving = threading.Thread(target=device)
        serving.start()
        shown = ["-w", "|%header{x-thing}|%{num_connects} "]
        assert curl(proxy, url, url, *shown) == b"ok|a b|1 ok|a b|0 "
        serving.join()


def test_python(proxy, origin):
    fetch = "print(len(urllib.request.urlopen(sys.argv[1], sys.argv[2].encode() or None).read()))"
    program = f"import sys, urllib.request; {fetch}"
    url = f"http://localhost:{origin.web}"
    assert run(proxy, sys.executable, "-c", program, f"{url}/0/{MB}", "") == f"{MB}\n".encode()
    assert run(proxy, sys.executable, "-c", program, url, "abc") == b"64\n"


def test_git_clones(proxy, tmp_path):
    who = ["-c", "user.name=n", "-c", "user.email=e"]
    work, copy = tmp_path / "work", tmp_path / "copy"
    run(proxy, "git", "init", "-q", work)
    for number in range(10):
        (work / f"file{number}").write_bytes(CONTENT[number : number + 50_000])
        run(proxy, "git", "add", "-A", cwd=work)
        run(proxy, "git", *who, "commit", "-q", "-m", f"change {number}", cwd=work)
    run(proxy, "git", "clone", "-q", "--bare", work, tmp_path / "bare.git")
    run(proxy, "git", "update-server-info", cwd=tmp_path / "bare.git")
    with web_server(tmp_path) as port:
        run(proxy, "git", "clone", "-q", f"http://localhost:{port}/bare.git", copy)
    assert (copy / "file9").read_bytes() == CONTENT[9 : 9 + 50_000]


def test_pip_downloads(proxy, tmp_path):
    folder = tmp_path / "simple" / "lanetest"
    folder.mkdir(parents=True)
    wheel = folder / "lanetest-1.0-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as made:
        made.writestr("lanetest.py", CONTENT[:MB].hex())
        made.writestr(
            "lanetest-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: lanetest\nVersion: 1.0\n"
        )
        made.writestr("lanetest-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        made.writestr("lanetest-1.0.dist-info/RECORD", "")
    (folder / "index.html").write_text(f'<a href="{wheel.name}#sha256={file_sha256(wheel)}">{wheel.name}</a>')
    with web_server(tmp_path) as port:
        index = ["--isolated", "--no-cache-dir", "-i", f"http://localhost:{port}/simple/", "--no-deps"]
        run(proxy, sys.executable, "-m", "pip", "download", *index, "-d", tmp_path / "got", "lanetest")
    assert file_sha256(tmp_path / "got" / wheel.name) == file_sha256(wheel)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_curl_with_a_password(tmp_path, origin, transport):
    options = ("--auth", "user:secret", "--pac")
    with running_pair(tmp_path, transport, client_options=options) as (_, client):
        host, port = client.address
        bare, login = f"http://{host}:{port}", f"http://user:secret@{host}:{port}"
        url = f"http://localhost:{origin.web}/7/{MB}"
        assert curl(login, url) == CONTENT[7 : 7 + MB]
        (tmp_path / "data").write_bytes(CONTENT[:MB])
        dance = ["--proxy-anyauth", "-U", "user:secret", "-w", "%{num_connects}", url]
        assert curl(bare, *dance, "-d", "abc").decode() == sha256(b"abc") + "1"  # on one connection
        assert curl(bare, *dance, "--data-binary", f"@{tmp_path}/data").decode()[:64] == sha256(CONTENT[:MB])
        tunnel = ["-p", "--proxy-anyauth", "-U", "user:secret"]
        assert curl(bare, *tunnel, url) == CONTENT[7 : 7 + MB]
        assert run(bare, "curl", "-qs", "-w", "%{http_code}", "-o", os.devnull, url) == b"407"
        assert f"PROXY {host}:{port}".encode() in curl(bare, "--noproxy", "*", f"{bare}/proxy.pac")
        assert client.stop() == 0
        assert "Traceback" not in client.stderr
