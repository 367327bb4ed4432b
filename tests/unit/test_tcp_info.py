import socket
import struct

from lane.stream import LinkStats
from lane.tcp_info import PathInfo, link_stats, parse, path_info


def test_figures_of_any_kernel():
    info = bytearray(232)
    for offset, value in [(16, 1000), (24, 7), (68, 50_000), (100, 10), (136, 400), (156, 200)]:
        struct.pack_into("=I", info, offset, value)
    struct.pack_into("=Q", info, 120, 1 << 40)
    stats = parse(bytes(info))
    assert (stats.rtt, stats.loss, stats.delivered, stats.in_flight) == (0.05, 0.05, 1 << 40, 7000)
    assert parse(bytes(info[:144])).loss == 0.025  # only all segments are counted
    old = parse(bytes(info[:104]))
    assert (old.rtt, old.loss, old.delivered) == (0.05, None, 0)


def test_the_path_as_any_kernel_measures_it():
    info = bytearray(232)
    for offset, value in [(16, 1000), (68, 50_000), (100, 10), (148, 40_000)]:
        struct.pack_into("=I", info, offset, value)
    struct.pack_into("=Q", info, 120, 1 << 40)

    class Sock:
        def getsockopt(self, *_):
            return bytes(info)

    assert path_info(Sock()) == PathInfo(1 << 40, 0.05, 0.04, 10_000)


def test_a_socket_without_such_figures_has_none():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        assert link_stats(sock) == LinkStats()
    assert link_stats(sock) == LinkStats(), "a closed one"


def test_a_system_without_such_figures(monkeypatch):
    monkeypatch.delattr(socket, "TCP_INFO")
    with socket.socket() as sock:
        assert link_stats(sock) == LinkStats()
