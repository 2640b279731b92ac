"""The part `diff` of `make bench-stream`: the differ with its real events on our loop, Faust and quix-streams, beside the small job."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass

from rich.console import Console

from bench.report import Bar, Part
from bench.stream_engines import OURS, QUIX_STREAMS
from bench.stream_job import Outcome, Sightings, outcome
from bench.stream_race import ASSETS, ratio, report, turn
from bench.stream_rig import Rig, Run
from bench.stream_sightings import Network, subnets
from infra.core.errors import DriftlineError, MissingPrerequisite

LOOKS = 7
LIMIT = 400.0


@dataclass(frozen=True, slots=True)
class Host:
    """An engine that runs the differ. `share`: as in stream_engines."""

    name: str
    share: int
    argv: Callable[[], list[str]]
    changelog: str
    key_of: Callable[[bytes], str | None]


def _quix() -> list[str]:
    return [*QUIX_STREAMS.argv()[:-1], "bench.stream_differ", "quix"]


def _after_subnet(key: bytes) -> str | None:
    """quix-streams writes `"<subnet key>"|"<asset key>"`."""
    return key.decode().partition('"|"')[2].rstrip('"') or None


HOSTS = (
    Host("differ", 1, lambda: [sys.executable, "-m", "bench.stream_differ", "loop"], "{run}.assets", OURS.key_of),
    Host("differ on quix-streams", 4, _quix, "changelog__{run}.differ--{run}.probes--default", _after_subnet),
    Host("differ on Faust", 10, lambda: [sys.executable, "-m", "processors.faust_app", "differ"], "{run}.assets", OURS.key_of),
)


def diff(rig: Rig, chosen: argparse.Namespace, console: Console) -> Part:
    """All in turns, the small job on our loop too."""
    small = Sightings(chosen.records, ASSETS)
    total = rig.fill("sightings.1", small.make()), small.outcome()
    work: dict[int, tuple[list[tuple[str, bytes]], Outcome]] = {}
    for share in sorted({one.share for one in HOSTS}):
        network = Network(subnets(chosen.diff_assets // share), LOOKS)
        work[share] = list(network.make()), network.outcome()
    runs: dict[str, list[Run]] = {"ours": []}
    for number in range(chosen.rounds):
        runs["ours"].append(turn(rig, OURS, number, *total))
        for one in HOSTS:
            try:
                done = _turn(rig, one, number, *work[one.share])
            except MissingPrerequisite as error:
                console.print(f"without {one.name}: {error}", style="yellow", markup=False)
                continue
            runs.setdefault(one.name, []).append(done)
            console.print(f"[dim]round {number + 1}: {one.name} {done.rate:,.0f}/s, {done.cpu:.2f} CPU s per 100,000[/]")
    inverse = ratio(runs, "ours", "differ")
    return report(
        "diff ('ours': the small job on the loop)",
        runs,
        [
            Bar("differ: of the small job's records/s", inverse, "at_least", 0.6),
            Bar("differ: records/s of quix-streams'", ratio(runs, "differ on quix-streams", "differ"), "at_least", 3.0),
        ],
    )


def _turn(rig: Rig, one: Host, number: int, records: list[tuple[str, bytes]], expected: Outcome) -> Run:
    run = f"{one.name.replace(' ', '-')}-{number}"
    for name in ("ticks", "targets", "dlq.probes", "dlq.ticks"):
        rig.make_topic(f"{run}.{name}")
    rig.make_topic(f"{run}.changes")
    rig.make_topic(f"{run}.assets", compact=True)
    rig.fill(f"{run}.probes", records)
    env = {
        "DRIFTLINE_DATA_DIR": str(rig.folder / run),
        "DRIFTLINE_KAFKA__BOOTSTRAP": rig.bootstrap,
        "DRIFTLINE_KAFKA__PREFIX": f"{run}.",
        "DRIFTLINE_KAFKA__PARTITIONS": str(rig.partitions),
    }
    topic = f"{run}.probes"
    done = rig.run(one.argv(), f"{run}.differ", {topic: len(records)}, len(records) // LOOKS, LIMIT, env)
    found = outcome(rig.values(f"{run}.changes"), rig.table(one.changelog.format(run=run), one.key_of))
    if found != expected:
        raise DriftlineError(f"{one.name} did not do the job: {found} instead of {expected}.", "Its figures mean nothing.")
    rig.drop_topics(run)
    return done
