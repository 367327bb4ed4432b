"""The report of bench/story.py: it is complete, fetches nothing, and claims no more than a run showed."""

import copy
import json
import re
from pathlib import Path

import pytest
import story_page
import story_plot
from story_words import WORDS

ROOT = Path(__file__).parents[3]
RECORDED = json.loads((ROOT / "bench" / "results" / "story.json").read_text())
"""The figures of the report in docs/."""
REPORT = (ROOT / "docs" / "story.html").read_text()


def figures(name):
    return copy.deepcopy(RECORDED["chapters"][name]["figures"])


def against(name, changed):
    return [said.text for said in WORDS[name](changed).said if said.against]


def fetched(page):
    """What a browser would ask the network for."""
    return re.findall(r"https?:|\bsrc=|@import|<link|<script|href=\"(?!#)|url\((?!#)", page)


def test_the_report_in_docs_has_every_chapter_and_fetches_nothing():
    assert re.findall(r'<section id="(\w+)">', REPORT) == list(WORDS)
    assert REPORT.count("<svg") == REPORT.count("<table") == len(WORDS)
    assert not fetched(REPORT)
    assert "prefers-color-scheme: dark" in REPORT
    assert not RECORDED["about"]["quick"]


def test_the_report_in_docs_is_what_its_figures_make():
    """To make it anew: bench/story.py --draw --json bench/results/story.json --output docs/story.html."""
    bare = story_page.page(RECORDED, draw=lambda *_: "")
    assert re.sub(r"(?s)<svg.*?</svg>", "", REPORT) == bare


def test_the_pictures_fetch_nothing_and_share_no_names():
    pytest.importorskip("matplotlib", reason="pictures need matplotlib (make story installs it)")
    pictures = [story_plot.svg(name, figures(name), "a label") for name in WORDS]
    names = [name for picture in pictures for name in set(re.findall(r'\bid="([^"]+)"', picture))]
    assert len(names) == len(set(names))
    for picture in pictures:
        assert not fetched(picture)
        used = set(re.findall(r'(?:href="#|url\(#)([\w-]+)', picture))
        assert used <= set(re.findall(r'\bid="([^"]+)"', picture))
        assert not re.search(r"#[0-9a-f]{6}", picture), "a color that a dark page cannot change"


def test_a_proxy_that_is_not_held_back_contradicts_the_story():
    changed = figures("window")
    for point in changed["points"]:
        point["mbps"] = 25
    assert len(against("window", changed)) == 2


def test_a_flat_curve_contradicts_the_story():
    changed = figures("curve")
    for point in changed["points"]:
        point["mbps"] = 5
    assert any("no buffer fills the line" in text for text in against("curve", changed))


def test_a_cheap_and_fast_quic_contradicts_the_story():
    changed = figures("clean")
    for line in changed["lines"]:
        line["contenders"]["lane"] = dict.fromkeys(("client", "server"), 0.1) | {"mbps": 900}
    assert len(against("clean", changed)) == 3


def test_a_tls_that_holds_contradicts_the_story():
    changed = figures("loss")
    for one in changed["contenders"].values():
        one |= {"mbps": 20, "exchanges": [50, 60]}
    assert len(against("loss", changed)) == len(
        {"collapse", "BBR", *{"v2ray-mux"} & set(changed["contenders"])}
    )


def test_a_download_that_never_moves_contradicts_the_story():
    changed = figures("switch")
    changed["contenders"]["auto"]["trace"] |= {"changes": [], "lanes": [[-1, "tls"]]}
    assert "when they ended, TLS" in against("switch", changed)[0]


@pytest.mark.parametrize("name", WORDS)
def test_a_chapter_in_which_everything_failed_is_a_chapter_without_claims(name):
    changed = figures(name)
    for key in ("points", "lines"):
        if key in changed:
            changed[key] = []
    if "contenders" in changed:
        changed["contenders"] = {}
    page = story_page.page(
        {**RECORDED, "chapters": {name: {**RECORDED["chapters"][name], "figures": changed}}}
    )
    assert f'<section id="{name}">' in page
    assert "<svg" not in page


def test_what_was_not_measured_is_not_claimed_but_said():
    changed = copy.deepcopy(RECORDED)
    loss = changed["chapters"]["loss"]
    loss["figures"]["contenders"] = {"lane": loss["figures"]["contenders"]["lane"]}
    loss |= {"left_out": ["v2ray"], "errors": ["lane-tls: <broken>"], "late_us": 5000}
    changed["chapters"] = {"loss": loss}
    page = story_page.page(changed, draw=lambda *_: "")
    assert "collapses" not in page
    assert "v2ray is left out" in page
    assert "Not measured: lane-tls: &lt;broken&gt;" in page
    assert "too busy" in page
