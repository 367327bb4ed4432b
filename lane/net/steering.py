"""Which worker of a server gets a packet: programs for the kernel, in classic BPF.

The workers listen on one port with a socket each (SO_REUSEPORT). For a new TCP connection, and for each
datagram, the kernel runs the group's program, whose result is the number of a socket in the group
(SO_ATTACH_REUSEPORT_CBPF in socket(7)). Without a program, and for a number that no socket has, it takes a
hash of both addresses and ports.

A QUIC packet with a short header goes to the worker that its connection ID names (`lane.net.siblings`), so a
client may change its address. Everything else goes by the client's address, or by the kernel's hash.
"""

import ctypes
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address
from typing import Literal

Spread = Literal["address", "connection"]
"""What the workers share out: the clients' addresses, or single connections (the kernel's hash)."""
Step = tuple[int, int, int, int]
"""One instruction: the code, the two relative jumps (if true, if false), and the operand."""

MULTIPLIER = 0x9E3779B1
"""For multiplicative hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4)."""

_SO_ATTACH_REUSEPORT_CBPF = 51
_NETWORK_HEADER = 0xFFF00000  # SKF_NET_OFF: loads from here on are relative to the IP header
_LOAD_BYTE, _LOAD_WORD = 0x30, 0x20  # BPF_LD | BPF_ABS | BPF_B or BPF_W
_MULTIPLY, _SHIFT_RIGHT, _MODULO, _XOR = 0x24, 0x74, 0x94, 0xAC
_JUMP, _JUMP_IF_EQUAL, _JUMP_IF_BITS = 0x05, 0x15, 0x45
_TO_X, _RETURN_A, _RETURN = 0x07, 0x16, 0x06
_LONG_HEADER = 0x80
_BEYOND = 0xFFFF


def attach(sock: socket.socket, workers: int, spread: Spread, *, quic: bool) -> None:
    """Let the group of `sock`, which has a socket for each worker in order, go by its program.

    `quic`: see `lane.net.listen.bind_udp`. Raises OSError if the kernel refuses that.
    """
    if not quic and spread == "connection":
        return
    steps = program(workers, spread, quic=quic)
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *step) for step in steps))
    arguments = struct.pack("@HP", len(steps), ctypes.addressof(code))  # struct sock_fprog
    sock.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_REUSEPORT_CBPF, arguments)


def program(workers: int, spread: Spread, *, quic: bool) -> Sequence[Step]:
    """The program for `workers` sockets. A datagram too short for it goes to the first one."""
    rest = _by_address(workers) if spread == "address" else [(_RETURN, 0, 0, _BEYOND)]
    if not quic:
        return rest
    return [
        (_LOAD_BYTE, 0, 0, 0),
        (_JUMP_IF_BITS, 3, 0, _LONG_HEADER),
        (_LOAD_BYTE, 0, 0, 1),  # the first byte of the connection ID
        (_MODULO, 0, 0, workers),
        (_RETURN_A, 0, 0, 0),
        *rest,
    ]


def _by_address(workers: int) -> list[Step]:
    """See `worker_of`. The IP header tells its version, since a dual-stack socket gets both."""
    return [
        (_LOAD_BYTE, 0, 0, _NETWORK_HEADER),
        (_SHIFT_RIGHT, 0, 0, 4),
        (_JUMP_IF_EQUAL, 0, 2, 4),
        (_LOAD_WORD, 0, 0, _NETWORK_HEADER + 12),  # IPv4: the source
        (_JUMP, 0, 0, 5),
        (_LOAD_WORD, 0, 0, _NETWORK_HEADER + 8),  # IPv6: the first half of the source
        (_MULTIPLY, 0, 0, MULTIPLIER),
        (_TO_X, 0, 0, 0),
        (_LOAD_WORD, 0, 0, _NETWORK_HEADER + 12),
        (_XOR, 0, 0, 0),
        (_MULTIPLY, 0, 0, MULTIPLIER),
        (_SHIFT_RIGHT, 0, 0, 16),
        (_MODULO, 0, 0, workers),
        (_RETURN_A, 0, 0, 0),
    ]


def worker_of(host: str, workers: int) -> int:
    """The worker of a client at `host`, by its whole IPv4 address or the /64 of its IPv6 address."""
    address = ip_address(host)
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    if isinstance(address, IPv6Address):
        first, second = struct.unpack("!II", address.packed[:8])
        value: int = (first * MULTIPLIER & 0xFFFFFFFF) ^ second
    else:
        value = int(address)
    return ((value * MULTIPLIER & 0xFFFFFFFF) >> 16) % workers
