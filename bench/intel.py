"""`make bench-intel`: vulnerability feeds on a real Kafka: an EPSS day from file to every partition, and the memory of a large table.

`day`: 250,000 CVE records stand in the topic; an EPSS day of 300,000 scores is synced, then the next, in which every score is another;
a correlator of 12 partitions runs beside. Wall seconds, from the start of the sync until it is committed, and until every partition has
applied it. `table`: what the table of `intel` takes in a worker, kept as bytes and, for comparison, as events (of a tenth of the records).
`join`: how soon news has judged again what it touches (`intel_join.py`). Scores are made up. `--only` runs parts.
"""

from __future__ import annotations

import argparse
import multiprocessing
import queue
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from rich.console import Console

from bench.intel_join import join
from bench.intel_rig import MB, Tail, correlator, epss_day, fill, wait_applied
from bench.report import Bar, Part, tell
from infra.core.logs import configure_logs
from infra.core.settings import KafkaSettings, Settings, TelemetrySettings, load_settings
from infra.kafka import globaltables
from infra.kafka.topics import TopicAdmin
from producers.intel.sources import Source
from producers.intel.syncing import end_of_topic, sync
from schemas.codec import Codec
from tests.brokers import running_broker

NOW = datetime(2026, 6, 1, tzinfo=UTC)
DAYS = ("2026-03-01", "2026-03-02")
EVENTS_SHARE = 10


def day(settings: Settings, chosen: argparse.Namespace, console: Console) -> Part:
    """EPSS days while a correlator runs."""
    size = fill(settings, chosen.cves)
    figures: dict[str, object] = {"cves": chosen.cves, "scores": chosen.scores, "topic_mb": round(size / MB)}
    with correlator(settings) as worker:
        wait_applied(settings, end_of_topic(settings)[1])
        figures["correlator_mb"] = round(worker.memory_info().rss / MB)
        bars = []
        for number, name in enumerate(DAYS):
            source = Source("epss", epss_day(settings.data_dir, name, chosen.scores))
            tail, begun, cpu = Tail(settings), time.monotonic(), worker.cpu_times()
            peak, sync_cpu, written = _in_process(_sync, settings, source)
            synced = time.monotonic() - begun
            tail.wait(end_of_topic(settings)[1] - 1, settings.kafka.partitions)  # the last is the transaction's mark, handed to no consumer
            whole, after = time.monotonic() - begun, worker.cpu_times()
            used = after.user + after.system - cpu.user - cpu.system
            label = "first_day" if number == 0 else "next_day"
            figures[label] = {
                "written": written,
                "sync_seconds": round(synced, 1),
                "seconds": round(whole, 1),
                "sync_cpu_seconds": round(sync_cpu, 1),
                "sync_peak_mb": round(peak / MB),
                "correlator_cpu_seconds": round(used, 1),
            }
            console.print(label, figures[label])
            bars.append(Bar(f"{label}: seconds from the file to every partition", round(whole, 1), "at_most", 120))
        figures["correlator_mb_after"] = round(worker.memory_info().rss / MB)
    return Part(figures, bars)


def table(settings: Settings, chosen: argparse.Namespace, console: Console) -> Part:
    """Memory of the table, in processes of their own."""
    tenth = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"prefix": f"{settings.kafka.prefix}tenth."})})
    TopicAdmin(tenth).apply()
    size = fill(settings, chosen.cves)
    fill(tenth, chosen.cves // EVENTS_SHARE)
    bytes_mb, seconds = _in_process(_load, settings, True)
    events_mb, events_seconds = _in_process(_load, tenth, False)
    figures = {
        "cves": chosen.cves,
        "value_mb": round(size / MB),
        "mb": round(bytes_mb / MB),
        "load_seconds": round(seconds, 1),
        "as_events_mb_of_a_tenth": round(events_mb / MB),
        "as_events_load_seconds_of_a_tenth": round(events_seconds, 1),
    }
    console.print("table", figures)
    return Part(figures, [Bar(f"MB that {chosen.cves} CVE records take in a worker", round(bytes_mb / MB), "at_most", 500)])


def _sync(plain: dict[str, Any], answers: queue.Queue[Any], source: Source) -> None:
    outcomes = sync(load_settings(**plain), Codec(), [source], NOW)
    if problem := outcomes[0].problem or outcomes[0].note:
        raise RuntimeError(problem)
    answers.put((_peak(), time.process_time(), outcomes[0].written))


def _load(plain: dict[str, Any], answers: queue.Queue[Any], compact: bool) -> None:
    if not compact:
        globaltables.COMPACT = frozenset()  # as it was before
    codec = Codec()
    codec.header("intel")
    before, begun = psutil.Process().memory_info().rss, time.monotonic()
    tables = globaltables.GlobalTables(load_settings(**plain), ("intel",), codec, ("intel",))
    tables.load(600.0)
    tables.forget("intel", tables.next_offset("intel"))
    answers.put((psutil.Process().memory_info().rss - before, time.monotonic() - begun))
    tables.close()


def _peak() -> int:
    """The most memory that this process had, in bytes (proc_pid_status(5), VmHWM)."""
    line = next(one for one in Path("/proc/self/status").read_text().splitlines() if one.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def _in_process(act: Callable[..., None], settings: Settings, *more: object) -> Any:
    context = multiprocessing.get_context("spawn")
    answers = context.Queue()
    process = context.Process(target=act, args=(settings.model_dump(), answers, *more), daemon=True)
    process.start()
    while True:
        try:
            found = answers.get(timeout=1.0)
            break
        except queue.Empty:
            if process.exitcode:
                raise RuntimeError(f"{act.__name__} ended with {process.exitcode}") from None
    process.join(30)
    return found


PARTS: dict[str, Callable[[Settings, argparse.Namespace, Console], Part]] = {"day": day, "table": table, "join": join}


def main() -> None:
    """Run the parts that were asked for and print what was measured."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS), help="these parts; default: all")
    arguments.add_argument("--cves", type=int, default=250_000, help="CVE records that stand in the topic")
    arguments.add_argument("--scores", type=int, default=300_000, help="scores of an EPSS day")
    sizes = [10_000, 100_000, 1_000_000]
    arguments.add_argument("--services", type=int, nargs="+", default=sizes, help="services of the part join, from step to step")
    arguments.add_argument("--workers", type=int, default=2, help="correlators that share the partitions, of the part join")
    chosen = arguments.parse_args()
    configure_logs(TelemetrySettings(log_level="error"))
    figures: dict[str, object] = {}
    bars: list[Bar] = []
    for name in chosen.only:
        with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder, running_broker(Path(folder)) as bootstrap:
            settings = Settings(data_dir=Path(folder), kafka=KafkaSettings(bootstrap=bootstrap, prefix=f"{name}."))
            TopicAdmin(settings).apply()
            part = PARTS[name](settings, chosen, Console(stderr=True))
        figures[name] = part.figures
        bars += part.bars
    tell("intel", figures, bars)


if __name__ == "__main__":
    main()
