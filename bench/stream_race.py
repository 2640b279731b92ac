"""The part `engine` of `make bench-stream`: one small job on every engine. A peer that can't be had is told, and its ratios are null."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Mapping, Sequence

from rich.console import Console
from rich.table import Table

from bench.report import Bar, Part
from bench.stream_engines import ENGINES, Engine
from bench.stream_job import Outcome, Sightings, outcome
from bench.stream_rig import Rig, Run
from infra.core.errors import DriftlineError, MissingPrerequisite

ASSETS = 100_000
LIMIT = 300.0


def engine(rig: Rig, chosen: argparse.Namespace, console: Console) -> Part:
    """All engines in turns; rates, CPU, and the bars of DESIGN.md."""
    there = _present(console)
    expected: dict[int, tuple[int, Outcome]] = {}
    for share in sorted({one.share for one in there}):
        work = Sightings(chosen.records // share, ASSETS // share)
        expected[share] = rig.fill(f"sightings.{share}", work.make()), work.outcome()
    runs: dict[str, list[Run]] = {one.name: [] for one in there}
    for number in range(chosen.rounds):
        for one in (*there[number % len(there) :], *there[: number % len(there)]):
            done = turn(rig, one, number, *expected[one.share])
            runs[one.name].append(done)
            console.print(f"[dim]round {number + 1}: {one.name} {done.rate:,.0f}/s, {done.cpu:.2f} CPU s per 100,000[/]")
    return report("engine", runs, _bars(runs))


def _present(console: Console) -> list[Engine]:
    there = []
    for one in ENGINES:
        try:
            one.argv()
        except MissingPrerequisite as error:
            console.print(f"without {one.name}: {error}", style="yellow", markup=False)
        else:
            there.append(one)
    return there


def turn(rig: Rig, one: Engine, number: int, total: int, expected: Outcome) -> Run:
    """One run, and whether it did the job. Raises DriftlineError if not."""
    run, given = f"{one.module.rpartition('.')[2].lower()}{number}", f"sightings.{one.share}"
    output, changelog = f"{run}.changes", one.changelog.format(run=run, input=given)
    rig.make_topic(output)
    if one.makes_changelog:
        rig.make_topic(changelog, compact=True)
    argv = one.command([rig.bootstrap, run, given, output, str(rig.folder / run), str(rig.partitions)])
    done = rig.run(argv, run, {given: total}, ASSETS // one.share, LIMIT, {})
    found = outcome(rig.values(output), rig.table(changelog, one.key_of))
    if found != expected:
        raise DriftlineError(f"{one.name} did not do the job: {found} instead of {expected}.", "Its figures mean nothing.")
    rig.drop_topics(run)
    return done


def report(title: str, runs: Mapping[str, Sequence[Run]], bars: list[Bar]) -> Part:
    """The table for people, and the figures."""
    table = Table(title=f"{title}: medians of {len(next(iter(runs.values())))} rounds, after the warm-up", title_justify="left")
    for head in ("", "records/s", "of ours", "CPU s per 100,000", "of ours", "each round, records/s"):
        table.add_column(head, justify="left" if not head else "right")
    ours, figures = next(iter(runs.values())), {}
    for name, many in runs.items():
        rate, cpu = median_rate(many), median_cpu(many)
        ratios = f"{rate / median_rate(ours):.2f}", f"{cpu / median_cpu(ours):.2f}"
        table.add_row(name, f"{rate:,.0f}", ratios[0], f"{cpu:.2f}", ratios[1], " ".join(f"{one.rate:,.0f}" for one in many))
        figures[name] = {"records_per_second": round(rate), "cpu_seconds_per_100000": round(cpu, 3), "records": many[0].records}
    Console(width=140).print(table)
    return Part(figures, bars)


def median_rate(runs: Sequence[Run]) -> float:
    """Records a second."""
    return statistics.median(one.rate for one in runs)


def median_cpu(runs: Sequence[Run]) -> float:
    """CPU seconds per 100,000 records."""
    return statistics.median(one.cpu for one in runs)


def ratio(runs: Mapping[str, Sequence[Run]], peer: str, ours: str = "ours", cpu: bool = False) -> float | None:
    """How many times the peer's rate (or records a CPU second) ours is: the median over rounds, each run beside its neighbour's."""
    if not runs.get(peer):
        return None
    pairs = zip(runs[ours], runs[peer], strict=True)
    return round(statistics.median(theirs.cpu / mine.cpu if cpu else mine.rate / theirs.rate for mine, theirs in pairs), 2)


def _bars(runs: Mapping[str, Sequence[Run]]) -> list[Bar]:
    return [
        Bar("engine: records/s of Kafka Streams'", ratio(runs, "Kafka Streams"), "at_least", 1.0),
        Bar("engine: records a CPU second of Kafka Streams'", ratio(runs, "Kafka Streams", cpu=True), "at_least", 1.5),
        Bar("engine: records/s of quix-streams'", ratio(runs, "quix-streams"), "at_least", 3.0),
        Bar("engine: records/s of a Faust table's", ratio(runs, "Faust"), "at_least", 20.0),
    ]
