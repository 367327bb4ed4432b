"""The page of the admin port: what carries, sessions, users and workers, for people with a browser.

Its files are in `assets/`, as they are: nothing is built, and nothing is fetched from elsewhere. `uplot.js`
and `uplot.css` are uPlot 1.6.32, with their licence beside them. The page asks for `/api/view` once a second.
Only that needs the secret: the files say nothing about this machine.

Names of targets and users come from strangers. So the policy below allows no script but the files, and no
text that becomes HTML.
"""

from functools import partial
from pathlib import Path

from lane.admin.web import Request, Response, Route, Routes

ASSETS = Path(__file__).with_name("assets")
KINDS = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
"""The kinds of files that are given out."""
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "img-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
HEADERS = (("Content-Security-Policy", POLICY), ("Referrer-Policy", "no-referrer"))


def routes() -> Routes:
    """The page at `/`, and its files below `/page/`."""
    files = {path.name: path for path in ASSETS.iterdir() if path.suffix in KINDS}
    answers = {name: Route(partial(_give, path), secret=False) for name, path in files.items()}
    return {("GET", "/" if name == "index.html" else f"/page/{name}"): one for name, one in answers.items()}


def _give(path: Path, request: Request) -> Response:
    return Response(path.read_bytes(), kind=KINDS[path.suffix], headers=HEADERS)
