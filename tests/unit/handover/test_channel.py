"""Values and descriptors between two processes."""

import os
import socket
import threading

import gevent
import pytest

from lane.errors import Closed, ProtocolError
from lane.handover import channel


@pytest.fixture
def pair():
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": [1, -1, 1.5, float("inf"), b"\0bytes", "text", True]},
        [2**64 - 1],
        "a plugin's \udcff",
        b"x" * (1 << 20),
    ],
)
def test_values(pair, value):
    sender = threading.Thread(target=channel.send, args=(pair[0], value))
    sender.start()
    assert channel.receive(pair[1]) == (value, [])
    sender.join()


def test_descriptors(pair):
    files = [os.memfd_create(str(number)) for number in range(channel.MOST_DESCRIPTORS)]
    for number, file in enumerate(files):
        os.write(file, b"%d" % number)
    channel.send(pair[0], {"n": 1}, files)
    value, came = channel.receive(pair[1])
    assert value == {"n": 1}
    assert [os.pread(one, 10, 0) for one in came] == [b"%d" % number for number in range(len(files))]
    assert not set(came) & set(files)
    assert not any(os.get_inheritable(one) for one in came)
    for one in files + came:
        os.close(one)


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", Closed),
        (b"\0\0\0", Closed),
        (b"\0\0\0\2\0\x01", Closed),
        (b"\0\0\0\1\0\xc1", ProtocolError),  # no type of MessagePack
        (b"\0\0\0\2\0\x01\x02", ProtocolError),  # two values
        (b"\xff\xff\xff\xff\0", ProtocolError),
        (b"\0\0\0\1\3\x01", ProtocolError),  # descriptors that are not there
    ],
)
def test_garbage(pair, data, error):
    pair[0].sendall(data)
    pair[0].shutdown(socket.SHUT_WR)
    with pytest.raises(error):
        channel.receive(pair[1])


def test_descriptors_of_a_malformed_message_are_closed(pair):
    reader, writer = os.pipe()
    socket.send_fds(pair[0], [b"\0\0\0\1\1\xc1"], [writer])
    os.close(writer)
    with pytest.raises(ProtocolError):
        channel.receive(pair[1])
    assert os.read(reader, 1) == b""  # nobody can write any more
    os.close(reader)


def test_names():
    name = channel.name()
    with channel.listen(name) as listener:
        asked = gevent.spawn(channel.connect, name)
        asked.join()
        with asked.value as sock, listener.accept()[0] as there:
            assert channel.trusted(there)
            assert channel.trusted(sock)
    with pytest.raises(ConnectionRefusedError):
        channel.connect(name)
