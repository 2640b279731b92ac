"""`make bench-scale`: the stream engine over more partitions and workers, and what a record costs as assets grow.

Three parts. `spread`: the same records over two, four and eight partitions, with one to four workers. `grow`: a worker with ten thousand,
a hundred thousand and a million assets, the cost taken over repeat sightings only. `scan`: the differ's look at every asset once an hour,
of which a minute's share must end within one transaction. CPU seconds are the workers' own; the broker shares the machine's cores.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.report import Bar, Part, tell
from bench.scale_rig import ScaleRig, Spread
from bench.scale_scan import scan
from bench.stream_job import Sightings
from infra.core.logs import configure_logs
from infra.core.settings import TelemetrySettings
from tests.brokers import running_broker

SPREADS = ((2, 1), (2, 2), (4, 1), (4, 2), (4, 4), (8, 1), (8, 2), (8, 4))
BAR_WIDTH = 40
LIMIT = 300.0


def main() -> None:
    """Measure and print."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--only", choices=("spread", "grow", "scan"), help="one part")
    arguments.add_argument("--records", type=int, default=200_000, help="repeat sightings that are measured in each run")
    arguments.add_argument("--assets", type=int, nargs="+", default=[10_000, 100_000, 1_000_000], help="sizes of the part grow")
    arguments.add_argument("--rounds", type=int, default=1, help="runs of each kind, of which the cheapest in CPU counts")
    chosen = arguments.parse_args()
    configure_logs(TelemetrySettings(log_level="error"))
    console, parts = Console(stderr=True), list[Part]()
    begun = os.getloadavg()
    with tempfile.TemporaryDirectory(prefix="driftline-scale-") as folder, running_broker(Path(folder)) as bootstrap:
        if chosen.only in (None, "spread"):
            parts.append(spread(bootstrap, Path(folder), chosen, console))
        if chosen.only in (None, "grow"):
            parts.append(grow(bootstrap, Path(folder), chosen, console))
    if chosen.only in (None, "scan"):
        parts.append(scan())
    figures: dict[str, object] = {"cores": os.cpu_count(), "load_before": round(begun[0], 1), "load_after": round(os.getloadavg()[0], 1)}
    bars = [bar for part in parts for bar in part.bars]
    for part in parts:
        figures |= part.figures
    tell("scale", figures, bars)


def spread(bootstrap: str, folder: Path, chosen: argparse.Namespace, console: Console) -> Part:
    """The same work over partitions and workers."""
    assets = 50_000
    work = Sightings(assets + chosen.records, assets)
    records, expected = list(work.make()), work.outcome()
    found: dict[tuple[int, int], Spread] = {}
    for partitions in sorted({one for one, _ in SPREADS}):
        rig = ScaleRig(bootstrap, folder, partitions)
        topic = f"spread-{partitions}"
        rig.fill(topic, records)
        for workers in (many for one, many in SPREADS if one == partitions):
            runs = [rig.crew(topic, workers, len(records), assets, LIMIT, expected) for _ in range(chosen.rounds)]
            found[partitions, workers] = min(runs, key=lambda one: one.cpu)
            console.print(f"[dim]{partitions} partitions, {workers} workers: {found[partitions, workers]}[/]")
        rig.drop_topics(topic)
    table = Table(title="the same records over partitions and workers", title_justify="left")
    for head in ("partitions", "workers", "records/s", "CPU s per 100,000", ""):
        table.add_column(head, justify="left" if not head else "right")
    top = max(one.rate for one in found.values())
    for (partitions, workers), one in found.items():
        table.add_row(str(partitions), str(workers), f"{one.rate:,.0f}", f"{one.cpu:.2f}", "█" * round(BAR_WIDTH * one.rate / top))
    Console(width=140).print(table)
    figures: dict[str, float] = {f"rate_{p}p_{w}w": round(one.rate) for (p, w), one in found.items()}
    figures |= {f"cpu_{p}p_{w}w": round(one.cpu, 3) for (p, w), one in found.items()}
    more = max(found[p, 1].cpu for p, w in found if w == 1) / min(found[p, 1].cpu for p, w in found if w == 1)
    return Part(
        figures, [Bar("spread: cost a record, dearest over cheapest number of partitions (one worker)", round(more, 2), "at_most", 1.2)]
    )


def grow(bootstrap: str, folder: Path, chosen: argparse.Namespace, console: Console) -> Part:
    """What a repeat sighting costs with more and more assets in the state."""
    rig, found = ScaleRig(bootstrap, folder, 4), dict[int, Spread]()
    for assets in chosen.assets:
        work = Sightings(assets + chosen.records, assets)
        topic = f"grow-{assets}"
        count = rig.fill(topic, work.make())
        runs = [rig.crew(topic, 1, count, assets, LIMIT, work.outcome()) for _ in range(chosen.rounds)]
        found[assets] = min(runs, key=lambda one: one.cpu)
        console.print(f"[dim]{assets:,} assets: {found[assets]}[/]")
        rig.drop_topics(topic)
    table = Table(title="the cost of a record as assets grow, one worker", title_justify="left")
    for head in ("assets", "records/s", "CPU s per 100,000", ""):
        table.add_column(head, justify="left" if not head else "right")
    top = max(one.cpu for one in found.values())
    for assets, one in found.items():
        table.add_row(f"{assets:,}", f"{one.rate:,.0f}", f"{one.cpu:.2f}", "█" * round(BAR_WIDTH * one.cpu / top))
    Console(width=140).print(table)
    figures = {f"cpu_{assets}_assets": round(one.cpu, 3) for assets, one in found.items()}
    least, most = min(found), max(found)
    ratio = round(found[most].cpu / found[least].cpu, 2) if most > least else None
    return Part(figures, [Bar(f"grow: cost a record at {most:,} assets over that at {least:,}", ratio, "at_most", 1.2)])


if __name__ == "__main__":
    main()
