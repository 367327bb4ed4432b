"""What the report of bench/story.py says in each chapter, made from a run's figures.

Each function takes the figures of a chapter of bench/story_chapters.py, and returns its Text.
"""

import statistics

import buffers
from story_text import (
    LANES,
    NAMES,
    SHORT,
    Text,
    counted,
    held,
    listed,
    plain,
    seen,
    short,
    shown,
    sized,
)
from verdicts import carried_by


def window(figures):
    rates = {(point["who"], point["rtt"]): point["mbps"] for point in figures["points"]}
    rtts = sorted({rtt for _, rtt in rates})
    eight = {rtt: rates.get(("stop-and-wait", rtt)) for rtt in rtts}
    direct = {rtt: rates.get(("direct", rtt)) for rtt in rtts}
    said = [
        plain(
            """lane's story begins with a proxy whose buffer of 8 KB was written into its code. It sent 8
            KB, and waited for an answer before it sent more. So it carried 8 KB per round trip, on every
            line."""
        )
    ]
    if eight.get(50) and direct.get(50):
        carried = (
            f"the proxy carries {short(eight[50])} Mbit/s, and TCP without a proxy {short(direct[50])} Mbit/s"
        )
        where = f"On a line of {figures['rate']} Mbit/s with a round trip of 50 ms"
        part = f"{eight[50] / direct[50] * 100:.0f} % of what the line can carry"
        said.append(seen(eight[50] < direct[50] / 4, f"{where}, {carried}: {part}.", f"{where}, {carried}."))
    known = {rtt: rate for rtt, rate in eight.items() if rate}
    if known:
        near = all(0.6 < rate / held(8192, rtt, figures["ceiling"]) < 1.1 for rtt, rate in known.items())
        ends = listed(f"{short(known[rtt])} Mbit/s at {rtt} ms" for rtt in (min(known), max(known)))
        text = f"It is the round trip that decides, not the line: the proxy carries {ends}."
        said.append(seen(near, text, f"The proxy's rates are not near 8 KB per round trip: {ends}."))
    rows = [(f"{rtt} ms", short(8192 * 8 / rtt / 1e3), short(eight[rtt]), short(direct[rtt])) for rtt in rtts]
    return Text(
        "A buffer of 8 KB",
        said,
        ("round trip", "8 KB per round trip (computed)", "proxy with 8 KB", "without a proxy"),
        rows,
        f"{figures['rate']} Mbit/s, no losses, round trips of {listed(map(str, rtts))} ms, TCP with cubic",
        caption="Download in Mbit/s. Both axes are logarithmic.",
        notes=[
            """The proxy was written anew for this report (bench/stop_and_wait.py). It waits as the first
            one did, and does not encrypt."""
        ],
    )


def curve(figures):
    said = [
        plain(
            """A line is full when as many bytes are under way as it carries in a round trip: its rate
            times its round trip, the bandwidth-delay product. A smaller buffer holds it back to one
            buffer per round trip. In lane the buffer is an option, --buffer-size, of 16 MB if nothing is
            set."""
        )
    ]
    by_link = {
        name: {point["size"]: point["mbps"] for point in figures["points"] if point["link"] == name}
        for name in figures["links"]
    }
    for name, link in figures["links"].items():
        said += on_link(link, by_link[name]) if by_link[name] else []
    sizes = sorted({point["size"] for point in figures["points"]})
    rows = [(buffers.name(size), *(short(rates.get(size)) for rates in by_link.values())) for size in sizes]
    links = [f"{link['rate']} Mbit/s, {link['rtt']} ms" for link in figures["links"].values()]
    return Text(
        "The curve",
        said,
        ("--buffer-size", *links),
        rows,
        "; ".join(shown(link) for link in figures["links"].values()),
        "lane over QUIC, --buffer-size at both ends",
        """Download in Mbit/s. The thin lines are what is expected: buffer / round trip, up to the line's
        ceiling.""",
    )


def on_link(link, rates):
    """What a run shows on one link, of {size: Mbit/s}."""
    product = link["rate"] * link["rtt"] * 125
    at = f"At {link['rate']} Mbit/s and {link['rtt']} ms"
    least, best = min(rates), max(rates, key=rates.get)
    carried = (
        f"With {buffers.name(least)} lane carries {short(rates[least])} Mbit/s, "
        f"with {buffers.name(best)} {short(rates[best])} Mbit/s"
    )
    yield seen(
        best >= product / 2 and rates[best] > 0.6 * link["ceiling"],
        f"{at} the product is {product / 1e6:.1f} MB. {carried}.",
        f"{at} the product is {product / 1e6:.1f} MB, and no buffer fills the line. {carried}.",
    )
    small = {size: rate / held(size, link["rtt"], 1e9) for size, rate in rates.items() if size < product / 3}
    wrong = [buffers.name(size) for size, part in small.items() if not 0.6 < part < 1.15]
    yield seen(
        not wrong,
        "Below the product, the figures follow the thin line.",
        f"{at}, the figures of {listed(wrong)} are not near the thin line.",
    )
    large = [rate for size, rate in rates.items() if size > 1.5 * product]
    if len(large) > 1:
        yield seen(
            max(large) < 1.3 * min(large),
            "Above it, more buffer changes little.",
            f"""{at}, figures above the product differ, from {short(min(large))} to {short(max(large))}
            Mbit/s.""",
        )


def clean(figures):
    said = [
        plain(
            """All three get the same buffer and a line that loses nothing. Below TLS, the kernel does the
            work of TCP. With QUIC, the process does that work itself, packet by packet."""
        )
    ]
    for line in figures["lines"]:
        said += on_line(line["link"]["rate"], line["contenders"])
    rows = [
        (
            f"{line['link']['rate']} Mbit/s, {SHORT[who]}",
            *map(short, (one["mbps"], one["client"], one["server"])),
        )
        for line in figures["lines"]
        for who, one in line["contenders"].items()
    ]
    return Text(
        "QUIC, TLS and v2ray, on a clean line",
        said,
        ("", "Mbit/s", "client, CPU s/GB", "server, CPU s/GB"),
        rows,
        "; ".join(shown(line["link"]) for line in figures["lines"]),
        f"""{sized(figures)}, and --tcp-congestion system; v2ray with VLESS over TLS, and a buffer of the
        same size""",
        f"""Download, and the CPU time that each GB costs. Medians of
        {counted(figures["rounds"], "round")}, taken in turn.""",
    )


def on_line(rate, found):
    if not {"lane", "lane-tls"} <= set(found):
        return
    rates = {NAMES[who]: one["mbps"] for who, one in found.items()}
    cost = {who: one["client"] + one["server"] for who, one in found.items()}
    each = listed(f"{name} {short(mbps)}" for name, mbps in rates.items())
    quic, tls = found["lane"]["mbps"], found["lane-tls"]["mbps"]
    if rate < 100:
        yield seen(
            min(rates.values()) > 0.9 * max(rates.values()),
            f"At {rate} Mbit/s all fill the line: {each} Mbit/s.",
            f"At {rate} Mbit/s they differ: {each} Mbit/s.",
        )
    else:
        yield seen(
            tls > 1.05 * quic,
            f"At {rate} Mbit/s QUIC falls behind: {each} Mbit/s.",
            f"At {rate} Mbit/s QUIC does not fall behind TLS: {each} Mbit/s.",
        )
        times = cost["lane"] / max(cost["lane-tls"], 0.01)
        of_each = listed(f"{NAMES[who]} {short(value)}" for who, value in cost.items())
        yield seen(
            times > 1.3,
            f"""A GB over QUIC costs {times:.1f} times the CPU of one over TLS, in seconds at both ends:
            {of_each}.""",
            f"A GB over QUIC does not cost more CPU than one over TLS, in seconds at both ends: {of_each}.",
        )


def loss(figures):
    found = figures["contenders"]
    said = [
        plain(
            """One packet in ten is lost, in each direction. TCP takes a lost packet for a full queue, and
            slows down. It also passes nothing on until that packet was repeated: all that has arrived
            behind it waits. This is called head-of-line blocking."""
        )
    ]
    rates = {who: one["mbps"] for who, one in found.items()}
    if {"lane", "lane-tls"} <= set(found):
        others = f" (v2ray: {short(rates['v2ray'])})" if "v2ray" in found else ""
        each = (
            f"QUIC carries {short(rates['lane'])} Mbit/s, and TLS {short(rates['lane-tls'])} Mbit/s{others}."
        )
        text = f"TLS over TCP collapses, and QUIC holds: {each}"
        holds = rates["lane"] > max(5 * rates["lane-tls"], figures["link"]["ceiling"] / 2)
        said.append(seen(holds, text, each))
    if {"lane-tls", "lane-tls-bbr"} <= set(found):
        bbr = short(rates["lane-tls-bbr"])
        text = f"""It is not TLS that fails, but the way in which TCP takes losses: with BBR for TCP,
            which lane asks the kernel for, TLS carries {bbr} Mbit/s."""
        otherwise = f"BBR below TLS does not help: {bbr} Mbit/s."
        said.append(seen(rates["lane-tls-bbr"] > 5 * rates["lane-tls"], text, otherwise))
    times = {who: statistics.median(one["exchanges"]) for who, one in found.items() if one["exchanges"]}
    if "lane" in times and "v2ray-mux" in found:
        muxed = times.get("v2ray-mux")
        each = f"over QUIC it takes {short(times['lane'])} ms, and "
        late = f"none was answered in {figures['patience']} s"
        each += f"in v2ray's one connection {f'{short(muxed)} ms' if muxed else late}."
        text = """Where all connections share one TCP connection, a small exchange waits behind all that a
            download beside it has under way, lost packets included. Streams of QUIC do not wait for each
            other:"""
        holds = muxed is None or muxed > 2 * times["lane"]
        said.append(seen(holds, f"{text} {each}", f"Of a small exchange beside the download: {each}"))
    rows = [
        (
            SHORT[who],
            short(one["mbps"]),
            f"{len(one['exchanges'])} of {len(one['exchanges']) + one['failed']}",
            short(times.get(who)),
            short(max(one["exchanges"], default=None)),
        )
        for who, one in found.items()
    ]
    return Text(
        "One packet in ten is lost",
        said,
        ("", "Mbit/s", "answered", "median, ms", "longest, ms"),
        rows,
        f"{shown(figures['link'])} each way; TCP with cubic, or with BBR where it says so",
        f"{sized(figures)}, and --tcp-congestion system, or bbr; v2ray as in the chapter before",
        "Above: download in Mbit/s. Below: each mark is an exchange beside it, on a logarithmic axis.",
        [
            f"""An exchange is 512 bytes up and 4 KB down on a new connection, one after the other, and
            given up after {figures["patience"]} s. Over TLS, each connection has a TCP connection of its
            own, but for "v2ray, one": there all share one (its mux). "TLS, BBR" is lane over TLS, with
            BBR for TCP."""
        ],
    )


def switch(figures):
    found, (worse, better, secs) = figures["contenders"], figures["steps"]
    said = [
        plain(
            f"""Neither is best everywhere, so lane measures both, and moves running connections to the
            better one. Here is one download. From {worse} s to {better} s the line loses one packet in
            ten. Every byte is compared with what was sent."""
        )
    ]
    changes = []
    if "auto" in found:
        trace = found["auto"]["trace"]
        changes, lanes = trace["changes"] or [], trace["lanes"]
        carried = [carried_by(lanes, at) for at in (worse, better, secs)]
        moved = [first_after(changes, at, lane) for at, lane in ((worse, "quic"), (better, "tls"))]
        first, then, last = (LANES.get(lane, lane) for lane in carried)
        otherwise = f"When the losses began, {first} carried it; when they ended, {then}; at the end, {last}."
        if None in moved or carried != ["tls", "quic", "tls"]:
            said.append(plain(otherwise, against=True))
        else:
            said.append(
                plain(
                    f"""lane moved it to QUIC {short(moved[0])} s after the losses began, and back to TLS
                    {short(moved[1])} s after they ended."""
                )
            )
        if {"quic", "tls"} <= set(found):
            said.append(phases(found))
    rows = [
        (f"{at:.1f} s", f"{LANES.get(old, old)} → {LANES.get(new, new)}", why)
        for at, old, new, why in changes
    ]
    rows = rows or [("-", "none", "-")] * ("auto" in found)
    return Text(
        "The switch in the middle",
        said,
        ("at", "move", "the reason that lane gives"),
        rows,
        f"""{figures["link"]["rate"]} Mbit/s, {figures["link"]["rtt"]} ms; 0 %, 10 % and 0 % loss; TCP
        with cubic""",
        "--transport auto --tcp-congestion system",
        "Download in Mbit/s, in the colour of what carried it.",
    )


def first_after(changes, moment, lane):
    """Seconds from `moment` until lane moved to `lane`; None if it did not."""
    return next((at - moment for at, _, new, _ in changes if at >= moment and new == lane), None)


def phases(found):
    """Whether auto carried what the better one carried, in each phase."""
    rates = {who: [v for name, v in one["figures"].items() if "Mbit/s" in name] for who, one in found.items()}
    best = [max(pair) for pair in zip(rates["quic"], rates["tls"], strict=True)]
    names = ("before the losses", "during them", "after them")
    each = listed(
        f"{name} {short(own)} of {short(most)}"
        for name, own, most in zip(names, rates["auto"], best, strict=True)
    )
    good = all(own > 0.85 * most for own, most in zip(rates["auto"], best, strict=True))
    return seen(
        good,
        f"So it carries what the better of QUIC and TLS carries alone, in Mbit/s: {each}.",
        f"It does not carry in each phase what the better of QUIC and TLS carries alone, in Mbit/s: {each}.",
    )


WORDS = {each.__name__: each for each in (window, curve, clean, loss, switch)}
