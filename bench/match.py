"""`make bench-match`: verdicts on versions made from 1,200 real CVE records, and how many CVEs a second a service is held against.

The versions, one inside and one outside a record's ranges, and the right verdict on each come from `tests/match_cases.py`, which reads the
records by itself and knows nothing of `processors.match`. What is judged wrongly is listed with the reason given, and so are the records
from which no such pair can be made. The peer of the second part is univers' SemverVersion on the same versions, parsed before, as ours.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.table import Table
from univers.versions import SemverVersion

from bench.report import Bar, tell
from processors.match.evidence import Seen, seen
from processors.match.matcher import Matcher
from processors.match.matching import Known, Match, known, match
from processors.match.rulings import Verdict
from processors.match.versions import compare
from producers.intel.cve import read_cve
from producers.intel.statements import Rejected, record_of
from schemas.codec import Codec
from schemas.events.intel import IntelRecord
from tests.match_cases import SAMPLE, Case, cases, one_of_each, records

LEAST_RIGHT = 0.99
LEAST_RATE = 10_000  # CVEs a second that one service is held against, its verdict not remembered
COPIES = 20
CODEC = Codec()


@dataclass
class Judged:
    """What became of the cases: right and wrong pairs of one inside and one outside; all cases; records without a pair, and why."""

    right: int = 0
    wrong: list[tuple[Case, Match | None]] = field(default_factory=list)
    all_right: int = 0
    all_wrong: list[tuple[Case, Match | None]] = field(default_factory=list)
    records: int = 0
    left_out: list[tuple[str, str]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """The share of right verdicts, one inside and one outside a record."""
        return self.right / max(1, self.right + len(self.wrong))


def judged() -> Judged:
    """All records of the sample."""
    found = Judged()
    for record in records():
        cve = record["cveMetadata"]["cveId"]
        made, why = cases(record)
        if not made:
            found.left_out.append((cve, why))
            continue
        found.records += 1
        ready = known(event_of(record))
        verdicts = [(case, match(shown(case), ready)) for case in made]
        chosen = one_of_each(made, cve)
        for case, verdict in verdicts:
            good = is_right(case, verdict)
            found.all_right += good
            if not good:
                found.all_wrong.append((case, verdict))
            if any(case is one for one in chosen):
                found.right += good
                if not good:
                    found.wrong.append((case, verdict))
    return found


def event_of(raw: dict[str, Any]) -> IntelRecord:
    """A CVE record as it would stand in `intel`. Raises ValueError for one that is rejected, or wrong."""
    said = read_cve(raw)
    if isinstance(said, Rejected):
        raise ValueError(f"{said.cve} was rejected")
    return record_of(said, CODEC)


def shown(case: Case) -> Seen:
    """The evidence of a case."""
    return seen((case.cpe,), "", case.builder, case.revision)


def is_right(case: Case, found: Match | None) -> bool:
    """Outside must be `not affected`; inside `affected`, or `possible` where the record names platforms, which no CPE name shows."""
    verdict = found.verdict if found else None
    if not case.inside:
        return verdict is Verdict.NOT_AFFECTED
    return verdict is Verdict.AFFECTED or (case.limited and verdict is Verdict.POSSIBLE)


def main() -> None:
    """Run both parts and print them."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rounds", type=int, default=5)
    chosen = arguments.parse_args()
    if not SAMPLE.exists():
        Console(stderr=True).print(f"{SAMPLE.name} is not beside this checkout (shared/data): nothing can be judged.")
        raise SystemExit(3)
    found = judged()
    _print(found)
    speed = rates(chosen.rounds)
    figures: dict[str, Any] = {
        "records": found.records + len(found.left_out),
        "well_formed": found.records,
        "right": found.right,
        "wrong": len(found.wrong),
        "all_cases": found.all_right + len(found.all_wrong),
        "all_wrong": len(found.all_wrong),
        "left_out": len(found.left_out),
        **{name: round(rate) for name, rate in speed.items()},
    }
    bars = [
        Bar(
            "share of right verdicts, a version inside and one outside each well-formed record",
            round(found.share, 4),
            "at_least",
            LEAST_RIGHT,
        ),
        Bar("CVEs a second that a service is held against", round(speed["cves_a_second"]), "at_least", LEAST_RATE),
        Bar("versions compared, times univers", round(speed["comparisons_a_second"] / speed["univers_a_second"], 1), "at_least", 1),
    ]
    tell("match", figures, bars)


def _print(found: Judged) -> None:
    console = Console(width=160)
    console.print(f"{found.records} records with a version inside and one outside: {found.right} verdicts right, {len(found.wrong)} wrong.")
    console.print(f"All versions at, below and above the ends of ranges: {found.all_right} right, {len(found.all_wrong)} wrong.")
    table = Table("CVE", "version", "must be", "verdict", "why", title="Judged wrongly", title_justify="left")
    for case, verdict in found.wrong:
        must = "affected" if case.inside else "not affected"
        table.add_row(case.cve, case.version, must, verdict.verdict.value if verdict else "no match", verdict.reason if verdict else "")
    console.print(table)
    reasons: dict[str, list[str]] = {}
    for cve, why in found.left_out:
        reasons.setdefault(why, []).append(cve)
    table = Table("why no version inside and outside can be made", "records", title="Left out", title_justify="left")
    for why, cves in sorted(reasons.items(), key=lambda one: -len(one[1])):
        table.add_row(why, " ".join(cves))
    console.print(table)


def rates(rounds: int) -> dict[str, float]:
    """CVEs a second: verdicts worked out, remembered; records made ready; versions compared, by us and by univers."""
    raw = list(records())
    read = [event_of(one) for one in raw]
    ready = [known(one) for one in read]
    pairs = [(shown(case), one) for record, one in zip(raw, ready, strict=True) for case in cases(record)[0][:COPIES]]
    matcher = Matcher()
    versions = sorted({case.version for record in raw for case in cases(record)[0] if _is_semver(case.version)})
    neighbours = list(itertools.pairwise(versions))
    parsed = list(itertools.pairwise(map(SemverVersion, versions)))

    def judge() -> int:
        compare.cache_clear()
        return sum(match(shown, one) is not None for shown, one in pairs)

    def remember() -> int:
        return sum(matcher.match(shown, one.record) is not None for shown, one in pairs)

    def ours() -> int:
        compare.cache_clear()
        return sum(compare(left, right, "semver") == -1 for left, right in neighbours)

    def theirs() -> int:
        return sum(left < right for left, right in parsed)

    def prepare() -> list[Known]:
        return [known(one) for one in read]

    work: dict[str, tuple[Callable[[], object], int]] = {
        "cves_a_second": (judge, len(pairs)),
        "remembered_a_second": (remember, len(pairs)),
        "records_ready_a_second": (prepare, len(read)),
        "comparisons_a_second": (ours, len(neighbours)),
        "univers_a_second": (theirs, len(neighbours)),
    }
    found = {name: statistics.median(_rate(call, count) for _ in range(rounds)) for name, (call, count) in work.items()}
    Console(width=160).print(json.dumps({name: round(rate) for name, rate in found.items()}))
    return found


def _rate(call: Callable[[], object], count: int) -> float:
    began = time.process_time()
    call()
    return count / (time.process_time() - began)


def _is_semver(version: str) -> bool:
    return version.count(".") == 2 and version.replace(".", "").isdigit()


if __name__ == "__main__":
    main()
