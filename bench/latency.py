"""`make bench-latency`: time from a target event to its finding row in ClickHouse, and the pipeline's own share of it.

A whole pipeline runs on this machine with its own data. FTP-like services listen on addresses of 127.77.0.0/16; each address is
pushed once, as one event, so that each event ends in one new finding. `total` is from publishing the target until its row is visible
to a reader; `probing` from the unit's first packet until its records are in Kafka; `pipeline` is the rest. Above `MOST_PROBED` events a
second the scanner probes only the first address and tells of the others what it saw there (`bench.latency_scanner`): `total` is all
the pipeline's own then. `--probe` has it probe at every rate.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from confluent_kafka import Message
from rich.console import Console
from rich.progress import track
from rich.table import Table

from bench.report import Bar, tell
from infra.app.output import sparkline
from infra.app.people import publisher
from infra.app.roles import GROUPS
from infra.app.supervisor import Supervisor
from infra.clickhouse.client import connect
from infra.core.logs import configure_logs
from infra.core.settings import Settings, load_settings
from infra.core.trust import load_signers
from infra.kafka.client import Publisher, read_whole, value_of
from infra.kafka.timestamps import recorded_at
from infra.local.child import Child
from producers.auditing import local_actor
from producers.grants.issuing import Desk, GrantForm, create_grant
from producers.grants.keys import ensure_key
from schemas.codec import Codec
from schemas.events.targets import TargetRequest
from schemas.ids import content_id
from tests.pipelines import HEALTH_PORTS, _consecutive
from tests.ports import free_ports

PORT = 2121
NETWORK = "127.77.0.0/16"
GRANT = "bench"
WARM_UP = "127.77.0.1"
PROBES = ("banner",)
SEEN = "SELECT addresses[1] FROM findings WHERE rule = {rule:String} AND recorded_at >= fromUnixTimestamp64Milli({since:Int64})"
LOOK_BACK = 10.0  # seconds: what is older was seen before
BARS = {"p50": 60.0, "p99": 150.0}  # of the pipeline's own share, at BAR_RATE events a second
BAR_RATE = 100.0
MOST_PROBED = 10.0
PROBING = "SELECT addresses[1], toUnixTimestamp64Milli(recorded_at) - toUnixTimestamp64Milli(started_at) FROM sweeps"
HOPS = ("targets", "work.default", "probes", "changes", "exposures", "findings")


def main() -> None:
    """Run the benchmark and print what it measured."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, help="target events at each rate, at most 2,000 (default: 20 seconds' worth, 30 to 1,000)")
    arguments.add_argument("--rate", type=float, nargs="+", default=[1.0, 100.0, 1000.0], help="events a second, one run after the other")
    arguments.add_argument("--probe", action="store_true", help=f"probe each address, also at more than {MOST_PROBED:g} events a second")
    chosen = arguments.parse_args()
    console = Console(stderr=True)
    figures: dict[str, object] = {}
    bars: list[Bar] = []
    for rate in chosen.rate:
        events = min(chosen.events or max(30, min(1000, round(20 * rate))), 2000)
        with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
            _prepare(Path(folder))
            samples = _measure(events, rate, chosen.probe or rate <= MOST_PROBED, console)
        figures |= _report(samples, rate, bars)
    tell("latency", figures, bars)


def _prepare(folder: Path) -> None:
    """Own data, own ports; the roles are child processes and read the same environment."""
    broker, controller, store = free_ports(3)
    base = _consecutive(HEALTH_PORTS)
    os.environ |= {
        "DRIFTLINE_DATA_DIR": str(folder),
        "DRIFTLINE_BROKER__PORT": str(broker),
        "DRIFTLINE_BROKER__CONTROLLER_PORT": str(controller),
        "DRIFTLINE_STORE__PORT": str(store),
        "DRIFTLINE_TELEMETRY__PORT_BASE": str(base),
        # To wait for a place or for the scanner's budget of packets (1,000 a second, 40 to a host; a look takes some 20) is not the
        # pipeline's share, and the targets are this machine's own: the scanner keeps to what the grant allows.
        "DRIFTLINE_SCANNER__PARALLEL_UNITS": "256",
        "DRIFTLINE_SCANNER__PACKETS_PER_SECOND": "100000",
        "DRIFTLINE_SCANNER__PER_HOST_PER_SECOND": "1000",
    }


def _measure(events: int, rate: float, probe: bool, console: Console) -> list[tuple[float, float]]:
    settings = load_settings()
    configure_logs(settings.telemetry.model_copy(update={"log_level": "error"}), roles="bench")
    stop = threading.Event()
    groups = GROUPS if probe else tuple(one for one in GROUPS if one != ("scanner",))
    supervisor = Supervisor(settings, lambda text: console.print(f"[dim]{text}[/]"), groups)
    # One a subnet as long as there are enough: a scanner works on one unit of a subnet at a time.
    addresses = [f"127.77.{1 + number % 250}.{1 + number // 250}" for number in range(events)]
    servers = threading.Thread(target=_serve, args=([*(addresses if probe else ()), WARM_UP], stop), daemon=True)
    servers.start()
    scanner: Child | None = None
    try:
        supervisor.start(stop)
        if not probe:
            scanner = Child([sys.executable, "-m", "bench.latency_scanner"], settings.data_dir / "logs" / "scanner.log")
        key = ensure_key(settings, GRANT, (NETWORK,))
        now = datetime.now(UTC)
        form = GrantForm(
            (NETWORK,),
            now + timedelta(hours=1),
            tcp_ports=str(PORT),
            packets_per_second=100_000,
            per_host_per_second=1000,
            grant_id=GRANT,
        )
        with publisher(settings) as outlet:
            create_grant(form, key, Desk(local_actor(), load_signers(settings), settings.zones, {}, outlet.publish), now)
            _push(outlet, WARM_UP, "warm-up")
        seen = _Watcher(stop)
        seen.start()
        _await(lambda: WARM_UP in seen.rows, "the warm-up's finding")
        sent: dict[str, float] = {}
        spent, begun = _cpu(), time.monotonic()
        with publisher(settings) as outlet:
            for number, address in enumerate(track(addresses, "pushing", console=console)):
                time.sleep(max(0.0, begun + number / rate - time.monotonic()))
                sent[address] = time.time()
                _push(outlet, address, f"event-{number}")
        try:
            _await(lambda: all(one in seen.rows for one in addresses), "all findings")
        finally:
            _report_cpu(spent, _cpu(), time.monotonic() - begun, console)
        reader, probing = connect(settings), dict[str, float]()

        def looked_at() -> bool:
            """The rows of sweeps go another way than findings, and may come after them."""
            probing.update({str(address): float(took) for address, took in reader.query(PROBING).result_rows})
            return all(one in probing for one in addresses)

        _await(looked_at, "the rows of all sweeps")
        _report_hops(settings, addresses, seen.rows, console)
        return [(1000 * (seen.rows[one] - sent[one]), probing[one] if probe else 0.0) for one in addresses]
    finally:
        stop.set()
        if scanner is not None:
            scanner.stop(10.0)
        supervisor.stop()


def _cpu() -> dict[str, float]:
    """CPU seconds so far of the roles, the broker, and of this process, which pushes and watches."""
    found = {"the benchmark": psutil.Process().cpu_times()}
    for child in psutil.Process().children(recursive=True):
        words = child.cmdline()
        name = "+".join(words[words.index("run") + 1 :]) if "run" in words else words[-1] if "-m" in words else words[0].rpartition("/")[2]
        found[name] = child.cpu_times()
    return {name: float(times.user + times.system) for name, times in found.items()}


def _report_cpu(before: dict[str, float], after: dict[str, float], seconds: float, console: Console) -> None:
    used = sorted(((100 * (after[name] - before[name]) / seconds, name) for name in after), reverse=True)
    whole = sum(share for share, _ in used)
    console.print(f"percent of a core: {whole:.0f}, of which {', '.join(f'{name} {share:.0f}' for share, name in used)}")


def _await(condition: Callable[[], bool], what: str, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not arrive within {seconds:.0f} s: the measurement failed")
        time.sleep(0.05)


def _report_hops(settings: Settings, addresses: list[str], rows: dict[str, float], console: Console) -> None:
    """Median milliseconds from each topic to the next, by the broker's append times."""
    codec = Codec()
    times: dict[str, dict[str, float]] = {hop: {} for hop in HOPS}
    for hop in HOPS:

        def note(message: Message, hop: str = hop) -> None:
            text = str(codec.decode(hop, value_of(message) or b""))
            for address in addresses:
                if f"'{address}'" in text:
                    times[hop].setdefault(address, recorded_at(message).timestamp())

        read_whole(settings, hop, note)
    times["row visible"] = rows
    names = list(times)
    for before, after in itertools.pairwise(names):
        gaps = [1000 * (times[after][one] - times[before][one]) for one in addresses if one in times[before] and one in times[after]]
        console.print(f"{before:>14} → {after:14} median {statistics.median(gaps):7.1f} ms, worst {max(gaps):7.1f} ms")


def _push(outlet: Publisher, address: str, name: str) -> None:
    request = TargetRequest(request_id=content_id("bench", name), targets=(address,), ports=str(PORT), probes=PROBES, grant_id=GRANT)
    outlet.publish("targets", request.request_id, request)


class _Watcher(threading.Thread):
    """Asks ClickHouse every few milliseconds which findings are visible, and notes when each was first seen."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._stop_all = stop
        self.rows: dict[str, float] = {}

    def run(self) -> None:
        client = connect(load_settings())
        while not self._stop_all.wait(0.01):
            since = round(1000 * (time.time() - LOOK_BACK))
            result = client.query(SEEN, parameters={"rule": "plaintext-login", "since": since})
            at = time.time()
            for (address,) in result.result_rows:
                self.rows.setdefault(address, at)


def _serve(addresses: list[str], stop: threading.Event) -> None:
    """Something that looks like an FTP server and lets nobody in."""

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 (vsFTPd 3.0.3)\r\n")
        try:
            while await asyncio.wait_for(reader.readline(), 5.0):
                writer.write(b"530 Please login with USER and PASS.\r\n")
        except (TimeoutError, ConnectionError):
            pass
        writer.close()

    async def serve() -> None:
        for address in addresses:
            await asyncio.start_server(greet, address, PORT)
        await asyncio.to_thread(stop.wait)

    asyncio.run(serve())


def _report(samples: list[tuple[float, float]], rate: float, bars: list[Bar]) -> dict[str, object]:
    """Print the table of one rate, add its bars, return its figures."""
    total = [one for one, _ in samples]
    probing = [one for _, one in samples]
    pipeline = [max(0.0, whole - part) for whole, part in samples]
    table = Table(title=f"{len(samples)} target events at {rate:g}/s, milliseconds", title_justify="left")
    for name in ("", "p50", "p99", "worst", "in order of arrival"):
        table.add_column(name)
    figures: dict[str, object] = {f"events_at_{rate:g}": len(samples)}
    for name, values in (("total", total), ("probing", probing), ("pipeline", pipeline)):
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        found = {"p50": round(cuts[49], 1), "p99": round(cuts[98], 1)}
        figures |= {f"{name}_{cut}_ms_at_{rate:g}": figure for cut, figure in found.items()}
        if name == "pipeline" and rate == BAR_RATE:
            for cut, most in BARS.items():
                bars.append(Bar(f"pipeline {cut} ms at {rate:g}/s", found[cut], "at_most", most))
        table.add_row(name, f"{cuts[49]:.0f}", f"{cuts[98]:.0f}", f"{max(values):.0f}", sparkline(values[:: max(1, len(values) // 40)]))
    Console(width=140).print(table)
    return figures


if __name__ == "__main__":
    main()
