"""The name by which a client shows a server that it is the same device as before, whatever its address is.

Accounts may limit the devices of a user (`lane.users.account`). The name is derived, not kept in a file: from
the machine, the user of the system, the network namespace and the proxy port. So a client that is started
again keeps its name, and two clients on one machine have two. The key of the lane user goes into it as well:
nobody can tell from two such names for different keys that they are of one machine.
"""

import os
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path

from lane.address import Address
from lane.proto.hello import DEVICE_SIZE

_MACHINE = "/etc/machine-id", "/var/lib/dbus/machine-id"


def device_name(listen: Address, key: bytes) -> bytes:
    """The name of the client with the proxy port `listen` and the user's `key`: DEVICE_SIZE bytes.

    A client that lets the system pick its port, or a machine without an identifier (machine-id(5)), gets a
    random name.
    """
    machine = _machine()
    if not listen.port or not machine:
        return os.urandom(DEVICE_SIZE)
    namespace = 0
    with suppress(OSError):  # Linux only
        namespace = os.stat("/proc/self/ns/net").st_ino
    user = os.geteuid() if hasattr(os, "geteuid") else os.environ.get("USERNAME")  # Windows
    text = f"{machine} {user} {namespace} {listen}"
    return blake2b(text.encode(), digest_size=DEVICE_SIZE, key=key).digest()


def _machine() -> str:
    for path in _MACHINE:
        with suppress(OSError, ValueError):
            if text := Path(path).read_text(encoding="ascii").strip():
                return text
    return ""
