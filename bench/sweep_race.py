"""The race: every tool on every work, round by round, and what each took and found."""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measuring import Ran
from bench.report import Bar, Part
from bench.sweep_own import Home, command, read
from bench.sweep_peers import NAIVE_SAMPLE, Errand, Place, duplicates, peers
from bench.sweep_rig import Rig, sending
from bench.sweep_works import Work, works

OURS = "driftline sweep"
BARS = {"masscan": 1.6, "zmap": 1.25, "zmap -q": 1.25}
WAIT = 1.0
"""Seconds that every tool is told to wait after its last probe. Ours does where a probe is unanswered, and ends where none is."""
WIDTH = 24


@dataclass(frozen=True, slots=True)
class Runner:
    """A tool in the race."""

    name: str
    command: list[str] | None
    read: Callable[[str], list[Place]]
    environment: dict[str, str] | None = None
    scale: float = 1.0
    """By how much time and CPU are multiplied: only a sample was probed."""


@dataclass(frozen=True, slots=True)
class Lap:
    """One run of one tool."""

    ran: Ran
    found: int
    of: int
    false: int
    twice: int
    rate: float
    waited: float


def race(home: Home, chosen: argparse.Namespace, console: Console) -> Part:
    """Run all works, and set bars on each."""
    grant = home.grant("race")
    figures: dict[str, object] = {}
    bars: list[Bar] = []
    for work in works():
        if chosen.works and work.name not in chosen.works:
            continue
        with work.laid(home.folder) as (rig, errand):
            runners = _runners(home, grant, work, errand, console)
            laps = _laps(rig, work, runners, chosen, console)
        told = {runner.name: _figures(laps[runner.name], runner.scale) for runner in runners}
        figures[work.name] = told
        _print(work, told)
        able = {peer.name for peer in peers(work.first_port) if peer.command(errand) is not None}
        bars += _bars(work, told, able)
    return Part(figures, bars)


def _runners(home: Home, grant: Path, work: Work, errand: Errand, console: Console) -> list[Runner]:
    # Where any setting of the scanner is set, all count as set to `sweep`, its limit to a host too: then the grant's must be said again.
    once = home.environment(attempts=1, connect_timeout=1.0)
    found = [
        Runner(OURS, command(errand, grant), lambda text: read(text).places, once),
        Runner(f"{OURS}, as it is set", command(errand, grant), lambda text: read(text).places, home.environment()),
    ]
    for peer in peers(work.first_port):
        if peer.missing():
            console.print(f"[yellow]{peer.name} is not installed: it has no figures[/]")
        scale = work.probes / NAIVE_SAMPLE if peer.bounded else 1.0
        found.append(Runner(peer.name, None if peer.missing() else peer.command(errand), peer.read, None, scale))
    return found


def _laps(rig: Rig, work: Work, runners: Sequence[Runner], chosen: argparse.Namespace, console: Console) -> dict[str, list[Lap]]:
    """All rounds; who did not end in time is not asked again. Each tool begins as many rounds as any other, as nearly as can be."""
    laps: dict[str, list[Lap]] = {runner.name: [] for runner in runners}
    rig.run(list(runners[0].command or ()), chosen.limit, runners[0].environment)  # compiles what Python has not yet
    for turn in range(chosen.rounds):
        for place in range(len(runners)):
            runner = runners[(turn + place) % len(runners)]
            before = laps[runner.name]
            if runner.command is None or (before and before[-1].ran.status is None):
                continue
            ran, log = rig.run(runner.command, chosen.limit, runner.environment)
            lap = _lap(ran, runner, work, log)
            before.append(lap)
            console.print(f"[dim]{work.name} round {turn + 1} {runner.name:28} {ran.wall:6.2f} s, found {lap.found} of {lap.of}[/]")
            if ran.status:
                console.print(f"[red]{runner.name} ended with {ran.status}: {ran.errors.strip()[-300:]}[/]", markup=False)
    return laps


def _lap(ran: Ran, runner: Runner, work: Work, log: list[tuple[float, int]]) -> Lap:
    told = runner.read(ran.output) if ran.status == 0 else []
    truth = work.truth
    if runner.scale != 1.0:
        asked = set(_sample(runner))
        truth = truth & asked
    packets, seconds, waited = sending(log)
    rate = packets / seconds if seconds else 0.0
    return Lap(ran, len(set(told) & truth), len(truth), len(set(told) - truth), duplicates(told), rate, waited)


def _sample(runner: Runner) -> list[Place]:
    assert runner.command is not None
    lines = Path(runner.command[2]).read_text().splitlines()
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def _figures(laps: Sequence[Lap], scale: float) -> dict[str, object] | None:
    """Medians of a tool on a work; None: it did not take part."""
    if not laps:
        return None
    done = [lap for lap in laps if lap.ran.status == 0]
    if not done:
        return {"finished": False, "rounds": len(laps)}
    walls = [lap.ran.wall * scale for lap in done]
    return {
        "finished": len(done) == len(laps),
        "rounds": len(laps),
        "extrapolated": scale != 1.0,
        "wall_s": round(statistics.median(walls), 3),
        "wall_best_s": round(min(walls), 3),
        "wall_worst_s": round(max(walls), 3),
        "waited_s": round(statistics.median(lap.waited for lap in done), 3),
        "wall_had_it_waited_s": round(statistics.median(lap.ran.wall * scale + max(0.0, WAIT - lap.waited) for lap in done), 3),
        "cpu_s": round(statistics.median(lap.ran.cpu * scale for lap in done), 3),
        "memory_mb": round(statistics.median(lap.ran.memory for lap in done), 1),
        "found": round(statistics.median(lap.found for lap in done)),
        "found_worst": min(lap.found for lap in done),
        "of": done[0].of,
        "false": max(lap.false for lap in done),
        "duplicates": max(lap.twice for lap in done),
        "packets_per_s": round(statistics.median(lap.rate for lap in done)),
    }


def _bars(work: Work, told: dict[str, dict[str, object] | None], able: set[str]) -> list[Bar]:
    """`able`: the tools that can do this work, installed or not."""
    ours = told[OURS]
    own = _number(ours, "wall_s")
    bars = []
    for name, least in BARS.items():
        theirs = _number(told.get(name), "wall_s")
        if name in able:
            bars.append(
                Bar(f"{work.name}: wall of {name} over ours", round(theirs / own, 3) if theirs and own else None, "at_least", least)
            )
    of = _number(ours, "of")
    if of:
        bars.append(Bar(f"{work.name}: share found, worst round", round((_number(ours, "found_worst") or 0.0) / of, 6), "at_least", 1.0))
    bars.append(Bar(f"{work.name}: false findings", _number(ours, "false"), "at_most", 0.0))
    return bars


def _number(told: dict[str, object] | None, name: str) -> float | None:
    value = (told or {}).get(name)
    return float(value) if isinstance(value, int | float) else None


def _print(work: Work, told: dict[str, dict[str, object] | None]) -> None:
    table = Table(title=work.title, title_justify="left")
    for name in ("", "wall s", "", "× ours", "CPU s", "MB", "found", "worst", "false", "twice", "packets/s", "waited s"):
        table.add_column(name, justify="left" if not name else "right")
    own = _number(told[OURS], "wall_s")
    longest = max((_number(one, "wall_s") or 0.0 for one in told.values()), default=0.0)
    for name, one in told.items():
        wall = _number(one, "wall_s")
        if one is None or wall is None or own is None:
            table.add_row(name, "–" if one is None else "did not end", "", "", "", "", "", "", "", "", "", "")
            continue
        bar = "█" * max(1, round(WIDTH * min(1.0, wall / min(longest, 8 * own))))
        mark = " *" if one["extrapolated"] else ""
        table.add_row(
            name,
            f"{wall:.2f}{mark}",
            bar,
            f"{wall / own:.2f}",
            f"{one['cpu_s']:.2f}",
            f"{one['memory_mb']:.0f}",
            f"{one['found']} of {one['of']}",
            str(one["found_worst"]),
            str(one["false"]),
            str(one["duplicates"]),
            f"{one['packets_per_s']:,}",
            f"{one['waited_s']:.2f}",
        )
    console = Console(width=150)
    console.print(table)
    if any(one and one.get("extrapolated") for one in told.values()):
        console.print(f"* extrapolated from {NAIVE_SAMPLE} probes")
