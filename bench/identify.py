"""`make bench-identify`: banners a second that the table of rules identifies on one core, and the longest that a hostile banner takes.

The banners are all examples of the table, each service's in equal number, divided into texts and asked as `driftline identify` does,
half with their protocol named and half with nothing but the text. The peer, in the same call, is the same rules with Python's `re`, one
after another. Hostile banners are 64 KiB of what rules nearly match, and 2 KiB strung together from the rules' own words, which drive an
automaton of many patterns through as many states as it can have. Their times are of the processor, the best of the rounds, and what
RE2 keeps of earlier texts is thrown away before each round: what counts is the first time that a banner is seen.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import os
import random
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.report import Bar, tell
from processors.enrich.identifying import Identifier, built_in_identifier, identity
from processors.enrich.linear import MOST_BYTES
from processors.enrich.table import FIELDS, built_in_table
from processors.enrich.texts import texts_in

LEAST_RATE = 5000
MOST_MS = 10.0
SIZE = 64 * 1024
STRUNG = 5000  # banners strung together
WORDS = re.compile(rb"[A-Za-z0-9/ _-]{3,}")  # of a pattern, more or less
BREAKS = (b"", b" ", b"-", b"\r\n", b".1", b"/", b" (1.2) ")
OPENINGS = (b"", b"", b"220 ", b"+OK ", b"* OK ", b"SSH-2.0-")
SAMPLE = 2000  # banners that the slower peer is asked for
HEAD = {"server": "Server", "title": "", "powered_by": "X-Powered-By", "www_authenticate": "WWW-Authenticate", "cookie": "Set-Cookie"}
Grab = tuple[bytes, str]  # raw words, and the protocol ('' if it is not known)
Ask = Callable[[bytes, str], str | None]


def main() -> None:
    """Run the benchmark and print what it measured."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--banners", type=int, default=10_000, help="banners a round")
    chosen = arguments.parse_args()
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    grabs = mix(chosen.banners)
    ours, peer = by_table(built_in_identifier()), one_by_one()
    rates: dict[str, list[float]] = {"table": [], "peer": []}
    for _ in track(range(chosen.rounds), "rounds", console=Console(stderr=True), transient=True):
        rates["table"].append(rate(ours, grabs))
        rates["peer"].append(rate(peer, grabs[:SAMPLE]))
    known = sum(ours(*grab) is not None for grab in grabs) / len(grabs)
    alike = statistics.fmean(ours(*grab) == peer(*grab) for grab in grabs[:SAMPLE])
    worst_ms, worst = slowest(ours)
    texts = strung(STRUNG)
    took = first_times(texts, chosen.rounds)
    strung_ms, strung_worst = max(zip(took, (raw[:40] for raw, _ in texts), strict=True))
    rates["strung"] = [1000 * len(took) / sum(took)]
    report(
        {name: statistics.median(found) for name, found in rates.items()}, known, alike, max((worst_ms, worst), (strung_ms, strung_worst))
    )


def raw_of(field: str, text: bytes) -> bytes:
    """The words of a server in which a rule finds this text."""
    if field == "title":
        return b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n<html><head><title>" + text + b"</title></head>"
    if field == "generator":
        return b'HTTP/1.1 200 OK\r\n\r\n<meta name="generator" content="' + text + b'">'
    return b"HTTP/1.1 200 OK\r\n" + HEAD[field].encode() + b": " + text + b"\r\n\r\n" if field in HEAD else text


def mix(count: int) -> list[Grab]:
    """So many banners, the services taking turns."""
    by_service: dict[str, list[bytes]] = defaultdict(list)
    for rule in built_in_table().rules:
        by_service[rule.service] += [raw_of(rule.field, example.text.encode("latin-1")) for example in rule.examples]
    turns = zip(*(itertools.cycle(texts) for texts in by_service.values()), strict=False)
    named = itertools.cycle((True, False))
    services = list(by_service)
    return [
        (raw, service if next(named) else "")
        for raw, service in itertools.islice(((raw, services[at]) for turn in turns for at, raw in enumerate(turn)), count)
    ]


def by_table(identifier: Identifier) -> Ask:
    """The rule that the table names, asked as the command asks."""

    def ask(raw: bytes, protocol: str) -> str | None:
        groups = identifier.groups(protocol, None)
        found = identifier.best(texts_in(raw, groups[0][0]), groups)
        return found.rule if found else None

    return ask


def one_by_one() -> Ask:
    """The same rules with Python's `re`, one after another."""
    table, identifier = built_in_table(), built_in_identifier()
    rules = [(rule, re.compile(rule.pattern.source, re.ASCII)) for rule in table.rules]
    of: dict[tuple[str, str], list[int]] = defaultdict(list)
    for place, (rule, _) in enumerate(rules):
        of[rule.service, rule.field].append(place)

    def places(services: tuple[str, ...], texts: dict[str, bytes]) -> Iterator[tuple[int, bytes]]:
        for field, service in itertools.product(FIELDS, services):
            if field in texts:
                yield from ((place, texts[field][:MOST_BYTES]) for place in of[service, field])

    def ask(raw: bytes, protocol: str) -> str | None:
        groups = identifier.groups(protocol, None)
        for place, text in places(groups[0], texts_in(raw, groups[0][0])):
            rule, pattern = rules[place]
            found = pattern.search(text)
            if found:
                return identity(rule, {name: (value or b"").decode("utf-8", "replace") for name, value in found.groupdict().items()}).rule
        return None

    return ask


def rate(ask: Ask, grabs: list[Grab]) -> float:
    """Banners a second of processor time."""
    began = time.process_time()
    for grab in grabs:
        ask(*grab)
    return len(grabs) / (time.process_time() - began)


def slowest(ask: Ask) -> tuple[float, bytes]:
    """Milliseconds of the slowest hostile banner over all rules of all services, and how it begins."""
    gc.disable()
    worst = (0.0, b"")
    for raw, protocol in hostile():
        took = min(_milliseconds(ask, raw, protocol) for _ in range(3))
        worst = max(worst, (took, raw[:40]))
    gc.enable()
    return worst


def hostile() -> Iterator[Grab]:
    """64 KiB of what rules nearly match: each example again and again, cut short, blown up in its middle."""
    for rule in built_in_table().rules:
        text = rule.examples[0].text.encode("latin-1")
        middle = len(text) // 2
        for part in (text, text[:-1], text[:middle], text[:middle] + b"a1. -"):
            yield raw_of(rule.field, (part * (SIZE // len(part) + 1))[:SIZE]), ""
        yield raw_of(rule.field, text[:middle] + text[middle : middle + 1] * SIZE), ""


def strung(count: int) -> list[Grab]:
    """So many texts of the rules' own words in any order, one in four of them in an HTTP answer's headers; always the same ones."""
    chance = random.Random(4)  # noqa: S311 (no secret)
    words = [word for rule in built_in_table().rules for word in WORDS.findall(rule.pattern.source)]

    def text() -> bytes:
        return b"".join(chance.choice(words) + chance.choice(BREAKS) for _ in range(MOST_BYTES // 4))[:MOST_BYTES]

    def answer() -> bytes:
        fields = b"".join(name.encode() + b": " + text().replace(b"\r\n", b" ") + b"\r\n" for name in HEAD.values() if name)
        return b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n<title>" + text() + b"</title>"

    return [(answer() if number % 4 == 0 else chance.choice(OPENINGS) + text(), "") for number in range(count)]


def first_times(grabs: list[Grab], rounds: int) -> list[float]:
    """Milliseconds of the processor that each takes a table that has not seen it, the best of the rounds."""
    best = [float("inf")] * len(grabs)
    gc.disable()
    for _ in range(rounds):
        ask = by_table(Identifier(built_in_table.__wrapped__()))
        for raw in (b"", raw_of("server", b"a"), *(raw_of(field, b"a") for field in HEAD)):
            ask(raw, "")  # the automata are made when they are first asked for
        best = [min(before, _milliseconds(ask, *grab)) for before, grab in zip(best, grabs, strict=True)]
    gc.enable()
    return best


def _milliseconds(ask: Ask, raw: bytes, protocol: str) -> float:
    began = time.process_time()
    ask(raw, protocol)
    return 1000 * (time.process_time() - began)


def report(rates: dict[str, float], known: float, alike: float, slowest_one: tuple[float, bytes]) -> None:
    """The table, and the line of JSON."""
    worst_ms, worst = slowest_one
    table = Table(title=f"{len(built_in_table().rules)} rules on one core, medians", title_justify="left")
    for name in ("", "banners/s", "ratio"):
        table.add_column(name)
    table.add_row("table of rules, RE2, all at once", f"{rates['table']:,.0f}", f"{rates['table'] / rates['peer']:.1f}")
    table.add_row("the same rules, Python's re, one by one", f"{rates['peer']:,.0f}", "1.0")
    table.add_row(
        "table of rules, hostile: strung together from their words", f"{rates['strung']:,.0f}", f"{rates['strung'] / rates['peer']:.1f}"
    )
    Console(width=140).print(table, f"identified: {known:.1%}; both name the same rule: {alike:.1%}", highlight=False)
    Console(width=140).print(f"slowest hostile banner: {worst_ms:.2f} ms, it begins with {worst!r}", highlight=False, markup=False)
    figures = {"banners_per_s": round(rates["table"]), "peer_banners_per_s": round(rates["peer"]), "slowest_ms": round(worst_ms, 3)}
    bars = [
        Bar("banners/s on one core", round(rates["table"]), "at_least", LEAST_RATE),
        Bar("hostile banners/s", round(rates["strung"]), "at_least", LEAST_RATE),
        Bar("slowest hostile banner, ms", round(worst_ms, 3), "at_most", MOST_MS),
    ]
    whole = {"rules": len(built_in_table().rules), **figures, "identified": round(known, 4), "same_rule": round(alike, 4)}
    tell("identify", whole, bars)


if __name__ == "__main__":
    main()
