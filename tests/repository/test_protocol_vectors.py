"""docs/PROTOCOL.md, docs/vectors.json and the code say the same, in both directions."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import pytest

from lane.address import Address
from lane.errors import ProtocolError
from lane.proto import frames, hello, udp

DOCS = Path(__file__).parents[2] / "docs"
FILE = json.loads((DOCS / "vectors.json").read_text())
VECTORS, REFUSED = FILE["vectors"], FILE["refused"]
DOCUMENT = (DOCS / "PROTOCOL.md").read_text()
FRAMES = {
    "DATA": frames.Data,
    "ACK": frames.Ack,
    "FIN": frames.Fin,
    "RESET": frames.ResetFrame,
    "PING": frames.Ping,
    "PONG": frames.Pong,
    "END": frames.End,
    "STATS": frames.Stats,
    "RECEIVED": frames.Received,
}


def of(message, vectors=VECTORS):
    return [pytest.param(v, id=v["name"]) for v in vectors if v["message"] == message]


def frame(fields):
    values = {name: value for name, value in fields.items() if name != "type"}
    if "data" in values:
        values["data"] = bytes.fromhex(values["data"])
    return FRAMES[fields["type"]](**values)


def read_frames(data):
    reader = frames.FrameReader()
    found = [
        frames.Data(f.offset, bytes(f.data)) if isinstance(f, frames.Data) else f for f in reader.feed(data)
    ]
    assert reader.between_frames
    return found


@pytest.fixture
def padded(monkeypatch):
    """Have REQUEST padded with given bytes instead of random ones."""

    def use(padding):
        found = padding.ljust(255, b"?") + bytes((len(padding),))
        monkeypatch.setattr(hello, "os", SimpleNamespace(urandom=lambda size: found[:size]))

    return use


@pytest.mark.parametrize("vector", of("hello"))
def test_hello(vector):
    fields, data = vector["fields"], bytes.fromhex(vector["hex"])
    proof = hello.token(bytes.fromhex(fields["key"]), bytes.fromhex(fields["binding"]))
    assert proof.hex() == fields["token"]
    device = bytes.fromhex(fields.get("device", ""))
    assert hello.pack_hello(proof, fields["padding"], device) == data
    assert hello.device_of(data) == device
    assert hello.parse_hello(data) == (proof, len(data))
    assert hello.parse_hello(data[: hello.HELLO_SIZE]) == (proof, len(data))
    assert not any(hello.parse_hello(data[:size]) for size in range(hello.HELLO_SIZE))


@pytest.mark.parametrize("vector", of("request"))
def test_request(vector, padded):
    fields, data = vector["fields"], bytes.fromhex(vector["hex"])
    address = Address(fields["host"], fields["port"])
    session = bytes.fromhex(fields.get("session", "")), fields.get("generation", 0)
    request = hello.Request(fields["command"], address, fields["window"], fields["flags"], *session)
    padded(bytes.fromhex(fields["padding"]))
    assert request.pack() == data
    assert hello.parse_request(data) == (request, len(data))
    assert hello.parse_request(data + b"more") == (request, len(data))
    assert not any(hello.parse_request(data[:size]) for size in range(len(data)))


@pytest.mark.parametrize("vector", of("reply"))
def test_reply(vector):
    fields, data = vector["fields"], bytes.fromhex(vector["hex"])
    bound = Address(fields["host"], fields["port"])
    server_epoch = bytes.fromhex(fields["boot_id"])
    reply = hello.Reply(fields["status"], server_epoch, fields["window"], bound, fields["text"])
    assert reply.pack() == data
    assert hello.parse_reply(data) == (reply, len(data))
    assert hello.parse_reply(data + b"more") == (reply, len(data))
    assert not any(hello.parse_reply(data[:size]) for size in range(len(data)))


@pytest.mark.parametrize("vector", of("frames"))
def test_frames(vector):
    data = bytes.fromhex(vector["hex"])
    expected = [frame(fields) for fields in vector["fields"]["frames"]]
    assert b"".join(map(frames.pack, expected)) == data
    assert read_frames(data) == expected


@pytest.mark.parametrize("vector", of("code"))
def test_codes_of_streams_that_are_reset(vector):
    value, code = int(vector["hex"], 16), vector["fields"]["code"]
    assert frames.aborted(value) == code
    assert code is None or frames.reset_code(code) == value


@pytest.mark.parametrize("vector", of("opening"))
def test_data_may_follow_a_request_at_once(vector):
    fields, data = vector["fields"], bytes.fromhex(vector["hex"])
    request, end = hello.parse_request(data)
    (named,) = (v for v in VECTORS if v["name"] == fields["request"])
    assert (request, end) == hello.parse_request(bytes.fromhex(named["hex"]))
    expected = [frame(each) for each in fields["frames"]]
    assert read_frames(data[end:]) == expected
    assert sum(len(each.data) for each in expected if isinstance(each, frames.Data)) <= hello.EARLY


def packet(fields):
    return Address(fields["host"], fields["port"]), bytes.fromhex(fields["payload"])


def read_packets(data):
    found, used = udp.PacketReader().take(data, 100)
    assert used == len(data)
    return found


@pytest.mark.parametrize("vector", of("packets"))
def test_packets(vector):
    data, expected = bytes.fromhex(vector["hex"]), [packet(each) for each in vector["fields"]["packets"]]
    assert b"".join(udp.pack_packet(*each) for each in expected) == data
    assert read_packets(data) == expected


@pytest.mark.parametrize("vector", of("datagram"))
def test_datagram(vector):
    data, fields = bytes.fromhex(vector["hex"]), vector["fields"]
    address, payload = packet(fields)
    assert udp.pack_datagram(bytes.fromhex(fields["flow"]), address, payload) == data
    assert udp.parse_datagram(data) == (address, payload)


@pytest.mark.parametrize("vector", of("hello", REFUSED))
def test_what_is_no_hello(vector):
    data = bytes.fromhex(vector["hex"])
    assert hello.parse_hello(data[: hello.HELLO_SIZE - 1]) is None, "judged before all of it was there"
    with pytest.raises(ProtocolError):
        hello.parse_hello(data)


PARSERS = {
    "request": hello.parse_request,
    "reply": hello.parse_reply,
    "frames": read_frames,
    "packets": read_packets,
    "datagram": udp.parse_datagram,
}


@pytest.mark.parametrize("vector", [vector for message in PARSERS for vector in of(message, REFUSED)])
def test_what_is_refused(vector):
    with pytest.raises(ProtocolError):
        PARSERS[vector["message"]](bytes.fromhex(vector["hex"]))


def test_names_are_unique():
    names = [vector["name"] for vector in [*VECTORS, *REFUSED]]
    assert len(names) == len(set(names)) > 40


def test_the_bytes_in_the_document_are_those_of_the_vectors():
    known = {vector["name"]: vector["hex"] for vector in VECTORS}
    shown = re.findall(r"^Vector `([^`]+)`:\n\n```\n(.*?)```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    assert len(shown) >= 6
    for name, block in shown:
        # A line is bytes in hex, two spaces or more, and what they mean.
        text = "".join(re.split(r" {2,}", line.strip())[0] for line in block.splitlines())
        assert text.replace(" ", "") == known[name], name


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("HELLO_SIZE", hello.HELLO_SIZE),
        ("MAX_HELLO_PADDING", hello.MAX_HELLO_PADDING),
        ("MAX_REQUEST", hello.MAX_REQUEST),
        ("MAX_REPLY", hello.MAX_REPLY),
        ("EARLY", hello.EARLY),
        ("MAX_TEXT", hello.MAX_TEXT),
        ("MAX_FRAME", frames.MAX_FRAME),
        ("MAX_PAYLOAD", frames.MAX_PAYLOAD),
        ("MAX_OFFSET", "2^62 - 1"),
        ("MAX_WINDOW", "2^32 - 1"),
        ("MAX_PACKET", udp.MAX_PACKET),
    ],
)
def test_the_limits_in_the_document_are_those_of_the_code(name, value):
    assert frames.MAX_OFFSET == 2**62 - 1
    assert frames.MAX_WINDOW == 2**32 - 1
    assert re.search(rf"^\| `{name}` \| {re.escape(str(value))} \|", DOCUMENT, re.MULTILINE)
