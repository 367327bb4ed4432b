"""The page of the admin port in a real browser: of real clients and servers, with real data.

What carries is the choice of a plugin here, so that a move comes when a test wants it.
"""

from contextlib import contextmanager
from threading import Event, Thread

import pytest

from lane.testing.harness import until
from tests.support.admin import SECRET, guarded
from tests.support.browser import Browser, needs_browser
from tests.support.processes import connected, echoes, running_pair, start_client, start_server
from tests.support.workers import on_linux

pytestmark = needs_browser
CHOOSER = """
from pathlib import Path
from lane import hookimpl

@hookimpl
def lane_choose(now, lanes, choice):
    return Path({file!r}).read_text(), "the test wants it <b>so</b>"
"""


@pytest.fixture(scope="module")
def started(tmp_path_factory):
    with Browser(tmp_path_factory.mktemp("browser")) as browser:
        yield browser


@pytest.fixture
def browser(started):
    """It has no secret yet, and it must have nothing to complain about at the end."""
    started.look_as(1280, 1000, "light")
    yield started
    assert started.complaints() == []
    started.open("about:blank")
    started.complaints()


def shown(browser, port):
    """Open the page, and give it the secret."""
    browser.open(f"http://127.0.0.1:{port}/")
    if until(lambda: browser.text("#ask") or browser.text("#view")) and browser.text("#ask"):
        browser.type("#secret", SECRET)
        browser.click("#ask button")
    until(lambda: browser.text("#view"))
    assert missing(browser.complaints()) <= {401}


def missing(complaints):
    """The statuses of answers that the browser complained of, and of nothing else. 0: none came."""
    assert all(one.startswith("network:") and "/api/view" in one for one in complaints), complaints
    return {int(one.partition("status of ")[2][:3] or 0) for one in complaints}


@contextmanager
def moving_data(client, origin):
    """A session that moves data as long as somebody looks."""
    ended = Event()

    def move():
        while not ended.wait(0.01):
            echoes(sock, bytes(10_000))

    with connected(client.address, origin.echo) as sock:
        mover = Thread(target=move, daemon=True)
        mover.start()
        try:
            yield
        finally:
            ended.set()
            mover.join()


@pytest.fixture
def client_of(tmp_path):
    """The options of a client whose lane is the one that a file names."""
    file, folder = tmp_path / "choice", tmp_path / "plugins"
    file.write_text("tls")
    folder.mkdir(mode=0o700)
    (folder / "chooser.py").write_text(CHOOSER.format(file=str(file)))
    port, options = guarded(tmp_path)
    return port, [*options, "--plugin-dir", folder], file


def test_a_client(browser, origin, client_of, tmp_path, run_lane):
    port, options, choice = client_of
    options += ["--control", tmp_path / "control.sock"]
    with running_pair(tmp_path, "auto", (), options) as (server, client):
        with moving_data(client, origin), connected(client.address, origin.web):
            shown(browser, port)
            assert browser.text("h1") == "lane client"
            said = run_lane("open", "--control", tmp_path / "control.sock")
            assert said.stdout == f"http://127.0.0.1:{port}/\n", said.stderr
            until(lambda: "carried by tls" in browser.text("#headline"))
            until(lambda: f"127.0.0.1:{origin.echo}" in browser.texts("#sessions td.target"))
            until(lambda: any(rate.endswith("bit/s") for rate in browser.texts("#sessions td:nth-child(3)")))
            choice.write_text("quic")
            until(lambda: "tls → quic" in browser.text("#moves"))
            assert "the test wants it <b>so</b>" in browser.text("#moves")
            until(lambda: "carried by quic" in browser.text("#headline"))
            until(lambda: pointed_out(browser))
            sorts(browser)
            has_two_themes(browser)
            fits_a_phone(browser)
        assert client.stop() == 0
        until(lambda: browser.text("#trouble").startswith("lane does not answer since "))
        before = browser.text("#about")
        with start_client(tmp_path / "client", "auto", server.link, *options):
            until(lambda: not browser.text("#trouble"))
            assert browser.text("#about") != before
            assert "tls → quic" in browser.text("#moves"), "what was before is still shown"
        assert missing(browser.complaints()) == {0}


def pointed_out(browser):
    """Whether the pointer finds the mark of the move, and what it says then."""
    width = browser.run("return document.querySelector('.u-over').clientWidth")
    for x in range(0, width // 2, 5):
        browser.hover(".u-over", x, 0)
        if text := browser.text(".tip:not([hidden])"):
            return "tls → quic: the test wants it <b>so</b>" in text
    return False


def sorts(browser):
    """The first click puts the most on top, the second one the least, and the third one ends it."""

    def downloaded():
        return browser.texts("#sessions td:nth-child(5)")

    head = "#sessions th:nth-child(5)"
    for way, place in (("descending", 1), ("ascending", 0), (None, None)):
        browser.click(f"{head} button")
        assert browser.run("return document.querySelector(arguments[0]).ariaSort", head) == way
        assert place is None or downloaded()[place] == "0 B"


def has_two_themes(browser):
    def background():
        return browser.run("return getComputedStyle(document.documentElement).backgroundColor")

    light = background()
    browser.look_as(1280, 1000, "dark")
    dark = background()
    assert light != dark
    for colour in (light, dark, dark):  # light, dark, and as the system again
        browser.click("#theme")
        assert background() == colour


def fits_a_phone(browser):
    browser.look_as(400, 800, "light")
    until(lambda: browser.run("return document.documentElement.scrollWidth") <= 400)
    assert browser.run("return document.querySelector('.uplot').clientWidth") <= 400


@on_linux
def test_a_server_of_two_workers(browser, origin, tmp_path, run_lane):
    port, options = guarded(tmp_path)
    with (
        running_pair(tmp_path, "quic", [*options, "--workers", "2"]) as (_, client),
        moving_data(client, origin),
    ):
        shown(browser, port)
        assert browser.text("h1") == "lane server"
        said = run_lane("open", "--state-dir", tmp_path / "server" / "state")
        assert said.stdout == f"http://127.0.0.1:{port}/\n", said.stderr
        until(lambda: browser.texts("#users td:first-child") == ["default"])
        until(lambda: f"127.0.0.1:{origin.echo}" in browser.texts("#sessions td.target"))
        until(lambda: browser.text("#lanes tbody tr").startswith("quic"))
        assert len(browser.texts("#workers tbody tr")) == 2
        assert browser.text("#moves") == ""
        asks_only_while_it_is_seen(browser)


def asks_only_while_it_is_seen(browser):
    """Once a second, and not while another tab is in front."""

    def see(hidden):
        browser.run(
            "Object.defineProperty(document, 'hidden', {value: arguments[0], configurable: true});"
            "document.dispatchEvent(new Event('visibilitychange'))",
            hidden,
        )

    def asked():
        return browser.run("return performance.getEntriesByType('resource').length")

    def now():
        return browser.run("return performance.now()")

    count = asked()
    until(lambda: asked() > count)
    see(True)
    begin, count = now(), asked()
    until(lambda: now() > begin + 2500)
    assert asked() <= count + 1, "one may have been on its way"
    see(False)
    until(lambda: asked() > count + 1)


def test_a_secret_is_asked_for_and_nothing_may_become_html(browser, tmp_path):
    port, options = guarded(tmp_path)
    with start_server(tmp_path, *options):
        browser.open(f"http://127.0.0.1:{port}/")
        browser.run("sessionStorage.clear()")
        browser.open(f"http://127.0.0.1:{port}/")
        until(lambda: browser.text("#ask"))
        browser.type("#secret", "a-wrong-one-of-many-characters")
        browser.click("#ask button")
        until(lambda: browser.text("#wrong") == "That is not the secret.")
        assert browser.text("#view") == ""
        shown(browser, port)
        browser.open(f"http://127.0.0.1:{port}/")
        until(lambda: browser.text("#view"))  # as long as the tab is open
        assert browser.run("return document.cookie") == ""
        assert browser.run(
            "try { document.body.innerHTML = '<b>'; return '' } catch (error) { return error.name }"
        )
        browser.run(
            "const one = document.createElement('div'); one.setAttribute('style', 'width: 7px');"
            "document.body.append(one)"
        )
        refused = browser.complaints()
        assert any("TrustedHTML" in one for one in refused), refused
        assert any("style-src" in one for one in refused), refused


def test_without_a_secret_it_asks_for_none(browser, tmp_path):
    port, options = guarded(tmp_path)
    with start_server(tmp_path, *options[:2]):
        browser.open(f"http://127.0.0.1:{port}/")
        until(lambda: browser.text("#view"))
        browser.open("about:blank")
        assert browser.complaints() == []
