"""`make soak`: the whole pipeline under a steady load for twenty minutes: memory, threads and descriptors flat, lag bounded.

FTP-like services listen on addresses of 127.79.0.0/16; each is looked at again and again, and says another version every minute, so that
every role has work all the time: looks, changes, exposures, findings, windows. What is known stays bounded; so must the roles be.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import threading
import time
import urllib.request
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import psutil
from rich.console import Console
from rich.live import Live
from rich.table import Table

from bench.report import Bar
from bench.soak_judge import KINDS, Sample, Tolerance, Verdict, judge
from infra.app.output import sparkline
from infra.app.people import publisher
from infra.app.runfolder import read_notes
from schemas.events.targets import TargetRequest
from schemas.ids import content_id
from tests.pipelines import Pipeline, prepare
from tests.ports import free_ports

NETWORK, GRANT = "127.79.0.0/16", "soak"
ADDRESSES = tuple(f"127.79.{1 + number % 100}.{1 + number // 100}" for number in range(400))
WIDTH = 30
STORE_MB, STORE_DESCRIPTORS = 64.0, 40.0
Samples = dict[str, list[Sample]]


def main() -> int:
    """Run it and print what it measured; 1 where a role did not stay as it was."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--seconds", type=float, default=1200.0, help="how long the load lasts")
    arguments.add_argument("--rate", type=float, default=20.0, help="target events a second")
    arguments.add_argument("--every", type=float, default=5.0, help="seconds between two looks at the processes")
    arguments.add_argument("--memory-mb", type=float, default=8.0, help="what a role may gain in any case in the judged two thirds")
    arguments.add_argument("--out", type=Path, help="a file for the summary and all samples, as JSON")
    chosen = arguments.parse_args()
    with tempfile.TemporaryDirectory(prefix="driftline-soak-") as folder:
        samples, restarts = soak(Path(folder), chosen.seconds, chosen.rate, chosen.every)
    verdicts = judge(samples, *tolerances(chosen.rate, chosen.memory_mb))
    summary = report(verdicts, restarts, chosen)
    if chosen.out:
        seen = {
            process: [[one.at, one.memory, one.threads, one.descriptors, one.lag] for one in found] for process, found in samples.items()
        }
        chosen.out.write_text(json.dumps({**summary, "samples": seen}))
    sys.stdout.write(json.dumps(summary) + "\n")
    return 0 if not restarts and all(one.holds for one in verdicts) else 1


def tolerances(rate: float, memory_mb: float) -> tuple[Tolerance, dict[str, Tolerance]]:
    """Of the roles, and of two that differ. A target makes some ten records: the lag may be ten seconds' worth.

    ClickHouse opens files as it merges, and its caches fill up to a cap of their own; the reconciler holds the last 15 minutes.
    """
    roles = Tolerance(memory_mb=memory_mb, lag=10 * 10 * rate)
    store = replace(roles, descriptors=STORE_DESCRIPTORS, memory_mb=max(memory_mb, STORE_MB))
    return roles, {"store": store, "reconciler": replace(roles, memory_mb=2 * memory_mb)}


def soak(folder: Path, seconds: float, rate: float, every: float) -> tuple[Samples, int]:
    """Samples of every process under load, and how often one was restarted."""
    console, stop, quiet = Console(stderr=True), threading.Event(), threading.Event()
    pipeline, (port,) = prepare(folder), free_ports(1)
    pipeline.environment |= {"DRIFTLINE_SCHEDULER__TICK_SECONDS": "10"}
    services = threading.Thread(target=_serve, args=(port, stop), daemon=True)
    services.start()
    samples: Samples = defaultdict(list)
    pipeline.start()
    try:
        pipeline.grant(GRANT, (NETWORK,), tcp_ports=str(port), packets_per_second=100_000, per_host_per_second=1000)
        load = threading.Thread(target=_load, args=(pipeline, port, rate, quiet), daemon=True)
        load.start()
        begun = time.monotonic()
        with Live(console=console, auto_refresh=False, transient=True) as live:
            for look in range(int(seconds / every)):
                time.sleep(max(0.0, begun + (look + 1) * every - time.monotonic()))
                for process, sample in _look(pipeline, time.monotonic() - begun).items():
                    samples[process].append(sample)
                live.update(drawn(samples, seconds), refresh=True)
        findings = pipeline.rows("SELECT count() AS n FROM findings FINAL")[0]["n"]
        if not findings:
            raise SystemExit("no finding came of the load: the measurement failed")
        console.print(f"[dim]{findings} findings stand[/]")
        return dict(samples), sum(row["restarts"] for row in pipeline.status(0.1).rows)
    finally:
        quiet.set()
        pipeline.stop()
        stop.set()
        services.join(30)


def _look(pipeline: Pipeline, at: float) -> dict[str, Sample]:
    """One sample of every role's process. The broker is Java's and not judged: its heap has a cap of its own."""
    notes = read_notes(pipeline.settings) or {"members": []}
    found = {}
    for member in notes["members"]:
        if member["port"] is None:
            continue
        try:
            process = psutil.Process(member["pid"])
            with process.oneshot():
                memory, threads, descriptors = process.memory_info().rss / 1e6, process.num_threads(), process.num_fds()
            with urllib.request.urlopen(f"http://127.0.0.1:{member['port']}/status", timeout=5) as answer:
                lag = sum(int(role["lag"]) for role in json.load(answer)["roles"].values())
        except (psutil.Error, OSError, ValueError):
            continue  # it was just restarted; restarts are counted
        found["+".join(member["roles"])] = Sample(at, memory, threads, descriptors, lag)
    return found


def _load(pipeline: Pipeline, port: int, rate: float, quiet: threading.Event) -> None:
    """A target event every 1/rate seconds, round and round the addresses."""
    begun, number = time.monotonic(), 0
    with publisher(pipeline.settings) as outlet:
        while not quiet.wait(max(0.0, begun + number / rate - time.monotonic())):
            request = TargetRequest(
                request_id=content_id("soak", number),
                targets=(ADDRESSES[number % len(ADDRESSES)],),
                ports=str(port),
                probes=("banner",),
                grant_id=GRANT,
                requested_by="soak",
            )
            outlet.publish("targets", request.request_id, request)
            number += 1


def _serve(port: int, stop: threading.Event) -> None:
    """Something that looks like an FTP server, lets nobody in, and says another version every minute."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(f"220 (vsFTPd 3.0.{int(time.time() / 60) % 7})\r\n".encode())
        try:
            while await asyncio.wait_for(reader.readline(), 5.0):
                writer.write(b"530 Please login with USER and PASS.\r\n")
        except (TimeoutError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def serve() -> None:
        servers = [await asyncio.start_server(greet, address, port) for address in ADDRESSES]
        await asyncio.to_thread(stop.wait)
        for server in servers:
            server.close()

    asyncio.run(serve())


def drawn(samples: Samples, seconds: float) -> Table:
    """All that was seen so far, as a table of little curves."""
    latest = max((seen[-1].at for seen in samples.values()), default=0.0)
    table = Table(title=f"{latest:.0f} of {seconds:.0f} s", title_justify="left")
    table.add_column("process", no_wrap=True)
    for kind in KINDS:
        table.add_column({"memory": "memory, MB"}.get(kind, kind), no_wrap=True)
    for process, seen in samples.items():
        cells = []
        for kind in KINDS:
            values = [float(getattr(one, kind)) for one in seen]
            cells.append(f"{sparkline(values[:: max(1, len(values) // WIDTH + 1)])} {values[-1]:.0f}")
        table.add_row(process, *cells)
    return table


def report(verdicts: list[Verdict], restarts: int, chosen: argparse.Namespace) -> dict[str, object]:
    """Print the table of verdicts; give the summary."""
    table = Table(title=f"gained in the last two thirds of {chosen.seconds:g} s at {chosen.rate:g} targets a second", title_justify="left")
    for head in ("process", "", "gained (lag: most)", "may be", ""):
        table.add_column(head)
    for one in verdicts:
        word = "flat" if one.holds else "[bold red]NOT FLAT[/]"
        table.add_row(one.process, one.kind, f"{one.figure:.1f}", f"{one.limit:.1f}", word)
    Console(width=140, stderr=True).print(table)
    bars = [Bar(f"{one.process}: {one.kind}", round(one.figure, 2), "at_most", round(one.limit, 2)) for one in verdicts]
    bars.append(Bar("restarts", restarts, "at_most", 0))
    return {"benchmark": "soak", "seconds": chosen.seconds, "rate": chosen.rate, "bars": [one.document() for one in bars]}


if __name__ == "__main__":
    sys.exit(main())
