"""The report of bench/story.py as one HTML page that asks for nothing from the network."""

from html import escape
from pathlib import Path

import labs
from story_plot import PALETTE, svg
from story_text import counted
from story_words import WORDS


def page(result, draw=svg):
    """The page, of what bench/story.py measured. `draw` makes the pictures."""
    light, dark = (
        " ".join(f"--{name}: {pair[shade]};" for name, pair in PALETTE.items()) for shade in (0, 1)
    )
    colors = f":root {{ {light} }}\n@media (prefers-color-scheme: dark) {{ :root {{ {dark} }} }}\n"
    style = colors + Path(__file__).with_name("story.css").read_text()
    chapters = [
        section(number, name, chapter, result["about"], draw)
        for number, (name, chapter) in enumerate(result["chapters"].items(), 1)
    ]
    return "\n".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>How lane came to be</title>\n<style>{style}</style>\n</head>\n<body>",
            opening(result),
            *chapters,
            "</body>\n</html>\n",
        ]
    )


def opening(result):
    about = result["about"]
    chapters = result["chapters"]
    against = sum(said.against for name, one in chapters.items() for said in words(name, one).said)
    busy = sum(one["late_us"] > labs.LATE for one in chapters.values())
    found = [f"This run contradicts the story in {counted(against, 'place')}, marked below."] * bool(against)
    found += [f"The machine was too busy to trust the figures of {counted(busy, 'chapter')}."] * bool(busy)
    kind = "short form, with fewer and shorter measurements (--quick)" if about["quick"] else "whole"
    facts = {
        "When": about["when"],
        "Command": command(about["command"]),
        "Run": kind,
        "Machine": words_in(f"{about['machine']}; Linux {about['kernel']}"),
        "Python": words_in(about["python"]),
        "Versions": words_in(f"{', '.join(about['versions'])}; commit {about['lane']}"),
    }
    return f"""<h1>How lane came to be</h1>
<p>lane is a tunnel proxy that carries connections over QUIC or TLS, and moves running ones to the better
of the two. This report retells why, by measurements. Each chapter measures one step on an emulated link,
with both ends on one machine. The sentences with figures are made from this run.</p>
{f'<p class="against"><b>{" ".join(found)}</b></p>' if found else ""}
{facts_of(facts)}"""


def facts_of(facts):
    return f"<dl>{''.join(f'<dt>{name}</dt><dd>{value}</dd>' for name, value in facts.items() if value)}</dl>"


def words_in(text):
    return escape(" ".join(text.split()))


def command(text):
    """Word by word, because browsers would break lines at hyphens."""
    return " ".join(f"<code>{escape(word)}</code>" for word in text.split())


def words(name, chapter):
    return WORDS[name](chapter["figures"])


def section(number, name, chapter, about, draw):
    text = words(name, chapter)
    said = [paragraph(one) for one in text.said]
    notes = [*text.notes]
    notes += [f"{who} is left out: it is not installed." for who in chapter["left_out"]]
    notes += [f"Not measured: {error}." for error in chapter["errors"]]
    quick = " --quick" if about["quick"] else ""
    facts = {
        "Command": command(f"python bench/story.py --only {name}{quick}"),
        "Link": words_in(text.link),
        "Options": words_in(text.options),
        "Machine": machine(chapter, about),
    }
    picture = draw(name, chapter["figures"], words_in(text.title)) if text.rows else ""
    return "\n".join(
        [
            f'<section id="{name}">\n<h2>{number}. {words_in(text.title)}</h2>',
            *said,
            f"<figure>{picture}<figcaption>{words_in(text.caption)}</figcaption></figure>",
            table(text, worded=name == "switch"),
            *(f'<p class="note">{words_in(note)}</p>' for note in notes),
            facts_of(facts),
            "</section>",
        ]
    )


def paragraph(said):
    if said.against:
        return f'<p class="against"><b>Not in this run:</b> {words_in(said.text)}</p>'
    return f"<p>{words_in(said.text)}</p>"


def table(text, worded):
    head = "".join(f"<th>{words_in(cell)}</th>" for cell in text.head)
    rows = ["".join(f"<td>{words_in(str(cell))}</td>" for cell in row) for row in text.rows]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    kind = ' class="words"' if worded else ""
    return f'<div class="scroll"><table{kind}>\n<tr>{head}</tr>\n{body}\n</table></div>'


def machine(chapter, about):
    """How busy it was: the load, which this run is a part of, and how late the emulator was."""
    begin, end = chapter["load"]
    load = f"load average {begin} at the start, {end} at the end, for {about['cpus']} CPUs (with this run)"
    late = f"packets came {chapter['late_us']:.0f} µs late on average, in the worst measurement"
    if chapter["late_us"] > labs.LATE:
        late = f'<span class="busy">{late}: the machine was too busy to trust the figures</span>'
    return f"{load}; {late}"
