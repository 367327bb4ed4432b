"""A real browser without a window, driven by chromedriver over plain HTTP (W3C WebDriver)."""

import json
import os
import shutil
import subprocess
import urllib.error
import urllib.request

import pytest

from lane.testing.harness import until
from tests.support.processes import DEADLINE, lasting_port

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
needs_browser = pytest.mark.skipif(
    not (CHROMIUM and DRIVER), reason="needs chromium and chromedriver (Debian: chromium, chromium-driver)"
)
QUIET = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--no-proxy-server",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-dev-shm-usage",
)  # fmt: skip


class Browser:
    """One tab. `folder` is for its profile. `prefix`: a command that runs the driver."""

    def __init__(self, folder, prefix=()):
        folder.mkdir(exist_ok=True)
        env = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        out, port = folder / "chromedriver.out", lasting_port()
        with out.open("wb") as file:
            self._driver = subprocess.Popen(
                [*prefix, DRIVER, f"--port={port}"],
                stdout=file,
                stderr=file,
                stdin=subprocess.DEVNULL,
                env=env,
            )
        try:
            until(lambda: "started successfully" in out.read_text(), out.read_text)
            self._at = f"http://127.0.0.1:{port}/session"
            options = {"args": [*QUIET, f"--user-data-dir={folder / 'profile'}"], "binary": CHROMIUM}
            wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
            session = self._ask("", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            self._at = f"{self._at}/{session}"
        except BaseException:
            self._driver.terminate()
            self._driver.wait(DEADLINE)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._ask("", method="DELETE")
        self._driver.terminate()
        self._driver.wait(DEADLINE)

    def open(self, url):
        """Go there."""
        self._ask("/url", {"url": url})

    def run(self, script, *arguments):
        """What a JavaScript function with this body returns."""
        return self._ask("/execute/sync", {"script": script, "args": [*arguments]})

    def text(self, selector):
        """The visible text of the first element; "" if there is none, or if it is hidden."""
        script = (
            "const e = document.querySelector(arguments[0]); return e?.checkVisibility() ? e.innerText : ''"
        )
        return self.run(script, selector).strip()

    def texts(self, selector):
        """The visible texts of all elements."""
        return self.run("return [...document.querySelectorAll(arguments[0])].map(e => e.innerText)", selector)

    def click(self, selector):
        """Click on the first element, as a user does."""
        self._ask(f"/element/{self._find(selector)}/click", {})

    def type(self, selector, keys):
        """Type into the first element, as a user does."""
        self._ask(f"/element/{self._find(selector)}/value", {"text": keys})

    def hover(self, selector, x, y):
        """Move the pointer there, pixels from the middle of the first element."""
        origin = {"element-6066-11e4-a52e-4f735466cecf": self._find(selector)}
        moves = [{"type": "pointerMove", "duration": 0, "x": x, "y": y, "origin": origin}]
        self._ask("/actions", {"actions": [{"type": "pointer", "id": "mouse", "actions": moves}]})

    def look_as(self, width, height, theme):
        """The size of the page, pixels, and what the system prefers: light or dark."""
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.control("Emulation.setDeviceMetricsOverride", size)
        features = [{"name": "prefers-color-scheme", "value": theme}]
        self.control("Emulation.setEmulatedMedia", {"features": features})

    def complaints(self):
        """What the browser said on its console since the last time: errors, warnings, violations."""
        return [f"{one['source']}: {one['message']}" for one in self._ask("/se/log", {"type": "browser"})]

    def control(self, command, parameters):
        """A command of the DevTools protocol."""
        return self._ask("/goog/cdp/execute", {"cmd": command, "params": parameters})

    def _find(self, selector):
        return next(iter(self._ask("/element", {"using": "css selector", "value": selector}).values()))

    def _ask(self, path, data=None, method=None):
        body = None if data is None else json.dumps(data).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._at}{path}", body, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=DEADLINE) as answer:
                return json.load(answer)["value"]
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(error.read().decode()[:1000]) from None
