import re

from lane.admin import page
from lane.admin.web import Request


def given():
    """What the page consists of: the answers by path."""
    return {path: route.handle(Request("GET", path)) for (_, path), route in page.routes().items()}


def test_all_files_are_given_out_without_a_secret_and_under_the_policy():
    assert all(method == "GET" and route.secret is False for (method, _), route in page.routes().items())
    answers = given()
    kinds = {"/": "text/html", "/page/page.js": "text/javascript", "/page/page.css": "text/css"}
    assert {path: answers[path].kind.partition(";")[0] for path in kinds} == kinds
    for answer in answers.values():
        assert dict(answer.headers)["Content-Security-Policy"].startswith("default-src 'none'; ")
        assert "unsafe" not in dict(answer.headers)["Content-Security-Policy"]


def test_a_file_names_only_files_that_are_there_and_nothing_elsewhere():
    answers = given()
    named = set()
    for path, answer in answers.items():
        text = answer.body.decode()
        if "uplot" not in path:
            assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", text), path
            assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\b|cookie", text), path
        named |= {f"/{name}" for name in re.findall(r'(?:src|href)="(page/[\w.]+)"', text)}
        named |= {f"/page/{name}" for name in re.findall(r'from "\./([\w.]+)"', text)}
    assert named == answers.keys() - {"/"}


def test_what_is_not_ours_has_its_licence_beside_it():
    assert "MIT License" in (page.ASSETS / "uplot.LICENSE").read_text()
    assert "v1.6.32" in (page.ASSETS / "uplot.js").read_text()[:100]
