"""What people do over connections that last, for bench/upgrade.py: ssh, a WebSocket, a download by curl.

Each is a program of its own that knows nothing of lane, and takes its SOCKS port. The first two exchange a
message every 0.1 s. One that is not installed is left out, and `missing` says so.

    python bench/upgrade_applications.py talk websocket --proxy PORT --to PORT
    python bench/upgrade_applications.py talk ssh COMMAND...    (one that gives back each line)
    python bench/upgrade_applications.py echo    (the server of the WebSocket; prints its port)

`talk` prints, after SIGTERM, the longest time until an answer was back, and what broke.
"""

import argparse
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from threading import Event, Thread
from types import SimpleNamespace

from labs import SERVER, end
from processes import line_with
from soak_kinds import HOST, socks5

EVERY = 0.1
PATIENCE = 120.0
"""Seconds without an answer after which a connection counts as dead."""
SPEED = 500_000
"""Bytes a second of curl's download."""
WEB, SHELL = 8080, 2222
"""Ports of the servers at the far side."""


def missing():
    """What can't be used here, and why."""
    needs = {
        "ssh": ("openssh-server", shutil.which("sshd") and shutil.which("ssh")),
        "ssh's way through SOCKS": ("netcat-openbsd", shutil.which("nc")),
        "the WebSocket": ("websockets", importlib.util.find_spec("websockets")),
        "curl": ("curl", shutil.which("curl")),
    }
    return {what: f"{package} is not installed" for what, (package, there) in needs.items() if not there}


# At both sides of a lab


class Applications:
    """All of them in `lab`, over the SOCKS port `proxy`. The download takes `secs`."""

    def __init__(self, lab, proxy, secs):
        self._lab, self._proxy, self._secs = lab, proxy, secs
        self.missing = missing()
        self._talking = {}
        if not {"ssh", "ssh's way through SOCKS"} & self.missing.keys():
            self._talking["ssh"] = self._talk("ssh", *self._shell())
        if "the WebSocket" not in self.missing:
            echo = lab.start("s", sys.executable, __file__, "echo")
            port = line_with(echo, "ready").split()[1]
            self._talking["websocket"] = self._talk("websocket", "--proxy", proxy, "--to", port)
        for one in self._talking.values():
            line_with(one, "began", PATIENCE)
        self._fetched = self._fetch() if "curl" not in self.missing else list

    def end(self):
        """End them: the longest time until an answer, of each, and what broke."""
        said = {name: end(one) for name, one in self._talking.items()}
        broke = [f"{name}: {one['error']}" for name, one in said.items() if one["error"]] + self._fetched()
        return {name: one["delay"] for name, one in said.items()}, broke

    def _talk(self, *arguments):
        return self._lab.start("c", sys.executable, __file__, "talk", *arguments)

    def _shell(self):
        """An sshd at the far side, and the command of a client whose shell gives back each line."""
        folder = self._lab.folder()
        for name in ("host", "user"):
            key = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name]
            subprocess.run(key, check=True)
        (folder / "authorized").write_text((folder / "user.pub").read_text())
        Path("/run/sshd").mkdir(exist_ok=True)  # sshd insists on it
        options = ("ListenAddress=127.0.0.1", f"Port={SHELL}", f"HostKey={folder / 'host'}", "UsePAM=no")
        options += (f"AuthorizedKeysFile={folder / 'authorized'}", "StrictModes=no", "PidFile=none")
        settings = [word for one in options for word in ("-o", one)]
        sshd = self._lab.start("s", shutil.which("sshd"), "-D", "-e", "-f", "/dev/null", *settings)
        line_with(sshd, "listening")
        way = f"nc -X 5 -x {HOST}:{self._proxy} %h %p"
        options = (f"ProxyCommand={way}", f"IdentityFile={folder / 'user'}", "StrictHostKeyChecking=no")
        options += ("UserKnownHostsFile=/dev/null", "BatchMode=yes", "LogLevel=ERROR")
        settings = [word for one in options for word in ("-o", one)]
        return ("ssh", "-F", "none", "-p", SHELL, *settings, "root@127.0.0.1", "cat")

    def _fetch(self):
        """Start the download. The returned function waits for it: its faults."""
        lab = self._lab
        page = lab.folder() / "page"
        page.write_bytes(os.urandom(SPEED * self._secs))
        server = lab.start("s", sys.executable, "-um", "http.server", WEB, "-b", SERVER, "-d", page.parent)
        line_with(server, "Serving")
        got = lab.folder() / "page"
        fetch = ("--socks5-hostname", f"{HOST}:{self._proxy}", "--limit-rate", SPEED, "-o", got)
        curl = lab.start("c", "curl", "-q", "-sS", *fetch, f"http://{SERVER}:{WEB}/page")

        def faults():
            if curl.wait(self._secs + 120):
                return [f"curl: {curl.said.read_text().strip()[-100:]}"]
            return [] if got.read_bytes() == page.read_bytes() else ["curl got other data"]

        return faults


# The programs of one side


def ssh(arguments):
    """Pass a line through a shell at the far side: the function that does it."""
    process = subprocess.Popen(
        arguments.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )

    def exchange(text):
        process.stdin.write(text.encode() + b"\n")
        process.stdin.flush()
        return process.stdout.readline().decode().rstrip("\n")

    return exchange


def websocket(arguments):
    """Pass a message to a WebSocket and back: the function that does it."""
    from websockets.sync.client import connect

    sock, _ = socks5(SimpleNamespace(proxy=arguments.proxy), HOST, arguments.to)
    link = connect("ws://target/", sock=sock, proxy=None, compression=None)

    def exchange(text):
        link.send(text)
        return link.recv()

    return exchange


def talk(arguments):
    """Exchange messages until SIGTERM."""
    over, found = Event(), {"delay": 0.0, "messages": 0, "error": None}
    signal.signal(signal.SIGTERM, lambda *_: over.set())
    exchange = {"ssh": ssh, "websocket": websocket}[arguments.how](arguments)

    def speak():
        try:
            while not over.is_set():
                text, began = f"message {found['messages']}", time.monotonic()
                answer = exchange(text)
                if answer != text:
                    found["error"] = f"the answer to {text!r} is {answer[:200]!r}"
                    return
                found["delay"] = max(found["delay"], round(time.monotonic() - began, 3))
                if not found["messages"]:
                    print("began", flush=True)
                    found["delay"] = 0.0
                found["messages"] += 1
                over.wait(EVERY)
        except Exception as error:
            found["error"] = repr(error)

    speaking = Thread(target=speak, daemon=True)
    speaking.start()
    over.wait()
    speaking.join(PATIENCE)
    if speaking.is_alive():
        found["error"] = f"no answer to message {found['messages']}"
    print(json.dumps(found), flush=True)
    os._exit(0)  # not after what it may still wait for


def echo():
    """Give each message of a WebSocket back."""
    from websockets.sync.server import serve

    def answer(link):
        for message in link:
            link.send(message)

    with serve(answer, HOST, 0, compression=None) as server:
        print("ready", server.socket.getsockname()[1], flush=True)
        server.serve_forever()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    does = parser.add_subparsers(dest="does", required=True)
    talks = does.add_parser("talk").add_subparsers(dest="how", required=True)
    talks.add_parser("ssh").add_argument("command", nargs=argparse.REMAINDER)
    of_websocket = talks.add_parser("websocket")
    of_websocket.add_argument("--proxy", type=int)
    of_websocket.add_argument("--to", type=int)
    does.add_parser("echo")
    arguments = parser.parse_args()
    talk(arguments) if arguments.does == "talk" else echo()


if __name__ == "__main__":
    main()
