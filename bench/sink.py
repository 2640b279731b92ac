"""`make bench-sink`: rows a second from Kafka into ClickHouse by one archiver, and how long a row takes until it is visible.

A real broker, the real engine behind its endpoint, and `driftline run archiver` as a process of its own. The log is filled first; then
the archiver starts, and the time runs from its being ready until the last row is visible. The peer is what one writes by hand: one loop of
confluent-kafka, fastavro and clickhouse-connect with the same row shapes, without checks, dead letters or upkeep. Every run is
checked: as many rows as the row function makes, none twice under FINAL.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from clickhouse_connect.driver.client import Client
from confluent_kafka import Producer
from rich.console import Console
from rich.table import Table

from bench.report import Bar, tell
from bench.sink_load import PEER, Load, load_of, visible, warm_up
from infra.app.supervisor import answers
from infra.clickhouse.client import connect
from infra.core.settings import BrokerSettings, KafkaSettings, Settings, StoreSettings, TelemetrySettings, load_settings
from infra.kafka.client import prefixed, producer_config
from infra.kafka.topics import TopicAdmin
from infra.local.broker import Broker
from infra.local.child import Child
from tests.ports import free_ports
from tests.stores import running_store

PARTITIONS = 12
LIMIT_SECONDS = 180.0
BARS = {"probes": 250_000, "changes": 80_000}
LATENCY_BAR_MS = 250


@dataclass(frozen=True, slots=True)
class Run:
    """Rows, seconds, and CPU seconds of who wrote them, of the store and of the broker."""

    rows: int
    seconds: float
    writer: float
    store: float
    broker: float

    @property
    def rate(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds


@dataclass(frozen=True, slots=True)
class Rig:
    """What runs during the whole benchmark."""

    settings: Settings
    environment: dict[str, str]
    store: int
    broker: int

    def cpu(self, pid: int) -> float:
        """CPU seconds of a process so far."""
        times = psutil.Process(pid).cpu_times()
        return float(times.user + times.system)


def main() -> None:
    """Run the benchmark and print what it measured."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--rows", type=int, default=1_500_000, help="rows of `probes` a round; of `changes` a third")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--only", choices=["probes", "changes", "latency"])
    arguments.add_argument("--seconds", type=float, default=15.0, help="how long the latency is measured, at each rate")
    chosen = arguments.parse_args()
    console = Console(stderr=True)
    figures: dict[str, object] = {}
    bars: list[Bar] = []
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder, _rig(Path(folder)) as rig:
        for topic in ("probes", "changes"):
            if chosen.only in (None, topic):
                load = load_of(topic, chosen.rows if topic == "probes" else chosen.rows // 3)
                figures |= _race(rig, load, chosen.rounds, bars, console)
        if chosen.only in (None, "latency"):
            figures |= _latencies(rig, chosen.seconds, bars, console)
    tell("sink", {"rounds": chosen.rounds, **figures}, bars)


@contextmanager
def _rig(folder: Path) -> Iterator[Rig]:
    port, controller, store_port, base = free_ports(4)
    settings = load_settings(
        data_dir=folder,
        kafka=KafkaSettings(partitions=PARTITIONS),
        broker=BrokerSettings(port=port, controller_port=controller),
        store=StoreSettings(port=store_port),
        telemetry=TelemetrySettings(port_base=base),
    )
    environment = {
        **os.environ,
        "DRIFTLINE_DATA_DIR": str(folder),
        "DRIFTLINE_BROKER__PORT": str(port),
        "DRIFTLINE_STORE__PORT": str(store_port),
        "DRIFTLINE_TELEMETRY__PORT_BASE": str(settings.telemetry.port_base),
        "DRIFTLINE_TELEMETRY__LOG_LEVEL": "warning",
        "MALLOC_ARENA_MAX": "2",
    }
    broker = Broker(settings)
    try:
        broker.start()
        with running_store(folder, settings=settings) as store:
            yield Rig(settings, environment, store.process.pid or 0, broker.pid or 0)
    finally:
        broker.stop()


def _prefix(rig: Rig, name: str) -> Settings:
    settings = rig.settings.model_copy(update={"kafka": rig.settings.kafka.model_copy(update={"prefix": f"{name}."})})
    TopicAdmin(settings).apply()
    return settings


def _fill(settings: Settings, load: Load) -> None:
    """Put the whole load on its topic."""
    producer = Producer(
        producer_config(settings, **{"linger.ms": 20, "batch.num.messages": 20_000, "queue.buffering.max.messages": 1_000_000})
    )
    topic = prefixed(settings, load.topic)
    for number, value in enumerate(load.values()):
        while True:
            try:
                producer.produce(topic, value, b"k", number % PARTITIONS)
                break
            except BufferError:
                producer.poll(0.1)
    if producer.flush(60.0):
        raise SystemExit("Kafka did not take the load: the measurement failed")


def _race(rig: Rig, load: Load, rounds: int, bars: list[Bar], console: Console) -> dict[str, object]:
    """Ours and the loop by hand, in turns."""
    runs: dict[str, list[Run]] = {"driftline": [], "by hand": []}
    for number in range(rounds):
        settings = _prefix(rig, f"{load.topic}{number}")
        console.print(f"[dim]round {number + 1}: filling {load.topic} with {load.records:,} records, {load.rows:,} rows[/]")
        _fill(settings, load)
        for name, found in runs.items():
            found.append(_run(rig, settings, load, name))
            console.print(f"[dim]  {name}: {found[-1].rate:,.0f} rows/s[/]")
    table = Table(title=f"{load.topic}: {load.rows:,} rows in {load.records:,} records, medians of {rounds}", title_justify="left")
    for column in ("", "rows/s", "records/s", "CPU s writer", "store", "broker", "a million rows"):
        table.add_column(column, justify="left" if not column else "right")
    medians = {name: statistics.median(run.rate for run in found) for name, found in runs.items()}
    for name, found in runs.items():
        spent = [statistics.median(getattr(run, part) for run in found) for part in ("writer", "store", "broker")]
        table.add_row(
            name, f"{medians[name]:,.0f}", f"{medians[name] * load.records / load.rows:,.0f}", *(f"{one:.1f}" for one in spent),
            f"{sum(spent) / load.rows * 1e6:.1f}",
        )  # fmt: skip
    Console(width=140).print(table)
    rate = round(medians["driftline"])
    bars.append(Bar(f"rows a second from {load.topic}", rate, "at_least", BARS[load.topic]))
    key = load.topic
    spread = [round(run.rate) for run in runs["driftline"]]
    return {f"{key}_rows_per_s": rate, f"{key}_rounds": spread, f"{key}_times_by_hand": round(medians["driftline"] / medians["by hand"], 2)}


def _run(rig: Rig, settings: Settings, load: Load, name: str) -> Run:
    """One run into an empty table, checked."""
    reader, writer = connect(rig.settings), connect(rig.settings, writer=True)
    writer.command(f"TRUNCATE TABLE {load.table}")
    before = rig.cpu(rig.store), rig.cpu(rig.broker)
    process = _ours(rig, settings) if name == "driftline" else _peer(rig, settings, load)
    begun, spent = time.perf_counter(), rig.cpu(process.pid)
    try:
        while _count(reader, load.table) < load.rows:
            if time.perf_counter() - begun > LIMIT_SECONDS or process.poll() is not None:
                raise SystemExit(f"{name} did not write all rows: the measurement failed")
            time.sleep(0.02)
        seconds = time.perf_counter() - begun
        run = Run(load.rows, seconds, rig.cpu(process.pid) - spent, rig.cpu(rig.store) - before[0], rig.cpu(rig.broker) - before[1])
        once = int(reader.query(f"SELECT count() FROM {load.table} FINAL").result_rows[0][0])  # noqa: S608  our own name
    finally:
        process.stop(20.0)
    if once != load.rows:
        raise SystemExit(f"{name}: {once} rows instead of {load.rows}: the measurement failed")
    return run


def _count(client: Client, table: str) -> int:
    return int(client.query(f"SELECT count() FROM {table}").result_rows[0][0])  # noqa: S608  our own name


def _ours(rig: Rig, settings: Settings) -> Child:
    """The archiver, ready."""
    environment = {**rig.environment, "DRIFTLINE_KAFKA__PREFIX": settings.kafka.prefix}
    child = Child([sys.executable, "-m", "infra.app.cli", "run", "archiver"], rig.settings.data_dir / "archiver.log", environment)
    port = rig.settings.telemetry.port_base + 7
    deadline = time.monotonic() + 60
    while not answers(port, "/readyz"):
        if time.monotonic() > deadline or child.poll() is not None:
            raise SystemExit("the archiver did not become ready: the measurement failed")
        time.sleep(0.01)
    return child


def _peer(rig: Rig, settings: Settings, load: Load) -> Child:
    """The loop by hand, past its imports."""
    ready = rig.settings.data_dir / "peer.ready"
    ready.unlink(missing_ok=True)
    topic = prefixed(settings, load.topic)
    environment = {
        **rig.environment,
        "PEER": json.dumps({"topic": topic, "name": load.topic, "ready": str(ready), "bootstrap": settings.bootstrap}),
    }
    child = Child([sys.executable, "-c", PEER], rig.settings.data_dir / "peer.log", environment)
    while not ready.exists():
        if child.poll() is not None:
            raise SystemExit("the loop by hand ended: the measurement failed")
        time.sleep(0.01)
    return child


def _latencies(rig: Rig, seconds: float, bars: list[Bar], console: Console) -> dict[str, object]:
    """From Kafka's append to a row that a reader sees, at 1,000 and at 5 events a second."""
    settings = _prefix(rig, "latency")
    connect(rig.settings, writer=True).command("TRUNCATE TABLE changes")
    archiver = _ours(rig, settings)
    figures: dict[str, object] = {}
    table = Table(title="milliseconds from Kafka's append to the row visible, `changes`", title_justify="left")
    for column in ("events/s", "events", "p50", "p99", "worst"):
        table.add_column(column, justify="right")
    try:
        warm_up(settings)
        for rate in (5, 1000):
            console.print(f"[dim]latency at {rate} events/s[/]")
            took = visible(settings, rate, seconds)
            cuts = statistics.quantiles(took, n=100, method="inclusive")
            table.add_row(f"{rate:,}", f"{len(took):,}", f"{cuts[49]:.0f}", f"{cuts[98]:.0f}", f"{max(took):.0f}")
            figures |= {f"visible_{rate}_p50_ms": round(cuts[49]), f"visible_{rate}_p99_ms": round(cuts[98])}
    finally:
        archiver.stop(20.0)
    Console(width=140).print(table)
    figure = figures["visible_1000_p99_ms"]
    assert isinstance(figure, int)
    bars.append(Bar("p99 ms to the row at 1,000/s", figure, "at_most", LATENCY_BAR_MS))
    return figures


if __name__ == "__main__":
    main()
