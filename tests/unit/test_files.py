"""Whom a file with a secret is trusted to; and what was handed over open is what it is."""

import os
import subprocess
import sys
import threading

import pytest

from lane.errors import ConfigError
from lane.files import SECRET, read, text_of

MODES = [(0o600, None), (0o400, None), (0o440, None), (0o640, None), (0o644, "read"), (0o604, "read")]
MODES += [(0o620, "write to"), (0o602, "write to"), (0o666, "write to"), (0o777, "write to")]


@pytest.mark.parametrize(("mode", "what"), MODES)
def test_who_may_read_a_secret(tmp_path, mode, what):
    """A group may: so are the credentials that systemd hands to a service."""
    file = tmp_path / "secret"
    file.write_bytes(b"x")
    file.chmod(mode)
    if what is None:
        assert read(file, 10, closed=SECRET) == b"x"
        return
    refusal = rf"^{file}: refused, since others may {what} it \(chmod 600 {file}\)$"
    with pytest.raises(ConfigError, match=refusal):
        read(file, 10, closed=SECRET)
    assert read(file, 10) == b"x"


def test_a_link_to_a_file_is_as_open_as_the_file(tmp_path):
    file, link = tmp_path / "secret", tmp_path / "link"
    file.write_bytes(b"x")
    file.chmod(0o644)
    link.symlink_to(file)
    with pytest.raises(ConfigError, match="refused"):
        read(link, 10, closed=SECRET)


def test_a_named_pipe_is_fine(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o644)
    writer = threading.Thread(target=pipe.write_bytes, args=(b"x",))
    writer.start()
    assert read(pipe, 10, closed=SECRET) == b"x"
    writer.join()


PROGRAM = """
import sys
from pathlib import Path
from lane.files import SECRET, read
print(read(Path(sys.argv[1]), 10, closed=SECRET).decode())
"""


@pytest.mark.parametrize("path", ["/dev/stdin", "/dev/fd/0", "/proc/self/fd/0"])
@pytest.mark.parametrize("way", ["file", "pipe"])
def test_what_is_handed_over_open_is_fine(tmp_path, path, way):
    file = tmp_path / "secret"
    file.write_bytes(b"x")
    file.chmod(0o644)
    with file.open("rb") as opened:
        how = {"stdin": opened} if way == "file" else {"input": b"x"}
        command = [sys.executable, "-c", PROGRAM, path]
        assert subprocess.run(command, capture_output=True, check=True, timeout=60, **how).stdout == b"x\n"


def test_a_file_that_is_too_long(tmp_path):
    file = tmp_path / "secret"
    file.write_bytes(bytes(11))
    with pytest.raises(ConfigError, match="is larger than 10 bytes"):
        read(file, 10)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"\xef\xbb\xbfone\ntwo", "one\ntwo"),
        (b"one\r\ntwo\rthree\n", "one\ntwo\nthree\n"),
        ("é\u2028".encode(), "é\u2028"),
        (b"", ""),
        (b"\xef\xbb\xbf", ""),
    ],
)
def test_text_as_editors_save_it(data, text):
    assert text_of(data, "FILE") == text


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("key = value".encode("utf-16"), "FILE: UTF-16 text: save it as UTF-8"),
        (b"\xfe\xff" + "key".encode("utf-16-be"), "FILE: UTF-16 text: save it as UTF-8"),
        ("key".encode("utf-32"), "FILE: UTF-32 text: save it as UTF-8"),
        ("key".encode("utf-16-le"), "FILE: not text: save it as UTF-8"),
        ("schlüssel".encode("latin-1"), "FILE: not UTF-8 text"),
    ],
)
def test_text_of_another_encoding_is_one_clear_line(data, message):
    with pytest.raises(ConfigError) as caught:
        text_of(data, "FILE")
    assert str(caught.value) == message
