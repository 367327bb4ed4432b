"""The story of lane, retold by measurements: a report with pictures, as one HTML file.

    python bench/story.py [--quick] [--only window,curve] [--output story.html] [--json FILE]
    python bench/story.py --draw --json FILE [--output story.html]

Five chapters, each on emulated links:

    window     a proxy with a buffer of 8 KB, over the round trip time
    curve      goodput over the buffer's size
    clean      QUIC, TLS and v2ray with the same buffer on lines that lose nothing
    loss       the same at 10 % loss
    switch     a download that lane moves while losses begin and end

All take about a quarter of an hour, with --quick two to three minutes. The figures are in the file of --json,
and --draw makes the report of them anew, without measuring. The report asks for nothing from the network.
It needs root and netlab (see bench/labs.py), and matplotlib.
"""

import argparse
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import auto
import labs
import story_page
from processes import LANE
from story_chapters import CHAPTERS, QUICK, WHOLE, Chapter


def about(quick):
    """The run: when, where, with what."""
    return {
        **auto.about(),
        "quick": quick,
        "machine": f"{os.cpu_count()} CPUs, {processor()}",
        "versions": [
            said(*LANE, "--version"),
            *(
                f"{name} {metadata.version(name)}"
                for name in ("aioquic", "gevent", "pyOpenSSL", "cryptography")
            ),
            *([said("v2ray", "-version").partition(" (")[0]] if shutil.which("v2ray") else []),
        ],
    }


def processor():
    found = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return found[0].partition(":")[2].strip() if found else platform.machine()


def said(*command):
    """The first line that a command prints."""
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return done.stdout.partition("\n")[0].strip()


def load():
    """The load average of the last minute."""
    return round(os.getloadavg()[0], 2)


def measure(names, plan):
    for number, name in enumerate(names, 1):
        chapter, began = Chapter(name), load()
        print(f"\n{number} of {len(names)}: {name}", flush=True)
        figures = CHAPTERS[name](chapter, plan)
        yield (
            name,
            {
                "figures": figures,
                "secs": round(time.monotonic() - chapter.begin),
                "load": [began, load()],
                "late_us": max(chapter.late, default=0),
                "left_out": chapter.left_out,
                "errors": chapter.errors,
            },
        )


def main():
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--quick", action="store_true", help="fewer and shorter measurements")
    parser.add_argument("--only", default=",".join(CHAPTERS), help="chapters")
    parser.add_argument("--output", type=Path, default=Path("story.html"), help="the report")
    parser.add_argument("--json", type=Path, metavar="FILE", help="for all figures")
    parser.add_argument("--draw", action="store_true", help="only make the report of the file of --json")
    args = parser.parse_args()
    names = args.only.split(",")
    if unknown := set(names) - set(CHAPTERS):
        parser.error(f"unknown: {', '.join(sorted(unknown))}; there are {', '.join(CHAPTERS)}")
    if args.draw and not args.json:
        parser.error("--draw needs --json")
    if not importlib.util.find_spec("matplotlib"):
        sys.exit("the report needs matplotlib: pip install matplotlib")
    for file in filter(None, (args.output, args.json)):
        if not file.parent.is_dir():
            parser.error(f"{file}: there is no folder {file.parent}")
    if args.draw:
        try:
            result = json.loads(args.json.read_text())
        except (OSError, ValueError) as error:
            parser.error(f"--json {args.json}: {error}")
    else:
        if missing := labs.lacking():
            sys.exit(f"the story is measured on emulated links, which need {' and '.join(missing)}")
        labs.prepare([])
        result = {"about": about(args.quick), "chapters": {}}
        for name, chapter in measure(names, QUICK if args.quick else WHOLE):
            result["chapters"][name] = chapter
            if args.json:
                args.json.write_text(json.dumps(result) + "\n")
    args.output.write_text(story_page.page(result))
    print(f"\nthe report: {args.output}")


if __name__ == "__main__":
    main()
