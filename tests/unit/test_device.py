"""A device keeps its name, and nobody else has it."""

import pytest

from lane import device
from lane.address import Address
from lane.device import device_name
from lane.proto.hello import DEVICE_SIZE

HERE, KEY = Address("127.0.0.1", 1080), bytes(32)


@pytest.fixture
def machine(tmp_path, monkeypatch):
    path = tmp_path / "machine-id"
    path.write_text("8d0f\n")
    monkeypatch.setattr(device, "_MACHINE", (str(tmp_path / "none"), str(path)))
    return path


def test_a_client_that_starts_again_keeps_its_name(machine):
    assert device_name(HERE, KEY) == device_name(HERE, KEY)
    assert len(device_name(HERE, KEY)) == DEVICE_SIZE


def test_other_ports_keys_and_machines_are_other_devices(machine):
    names = {device_name(HERE, KEY), device_name(HERE, b"k" * 32), device_name(HERE._replace(port=1081), KEY)}
    machine.write_text("9e1a\n")
    assert len(names | {device_name(HERE, KEY)}) == 4


@pytest.mark.parametrize("content", [None, b"", b"\xff\xfe"])
def test_a_machine_without_an_identifier_has_a_random_name(machine, content):
    machine.unlink() if content is None else machine.write_bytes(content)
    assert device_name(HERE, KEY) != device_name(HERE, KEY)


def test_a_port_that_the_system_picks_gives_a_random_name(machine):
    assert device_name(HERE._replace(port=0), KEY) != device_name(HERE._replace(port=0), KEY)
