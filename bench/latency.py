"""`make bench-latency`: time from a target event to its finding row in ClickHouse, and the pipeline's own share of it.

A whole pipeline runs on this machine with its own data. FTP-like services listen on addresses of 127.77.0.0/16; each address is pushed once, as one event, so that each
event ends in one new finding. `total` is from publishing the target until its row is visible to a reader; `probing` from the unit's first packet until its
records are in Kafka; `pipeline` is the rest.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from infra.app.output import sparkline
from infra.app.people import publisher
from infra.app.supervisor import Supervisor
from infra.clickhouse.client import connect
from infra.core.logs import configure_logs
from infra.core.settings import load_settings
from infra.core.trust import load_signers
from producers.auditing import local_actor
from producers.grants.issuing import Desk, GrantForm, create_grant
from producers.grants.keys import ensure_key
from schemas.events.targets import TargetRequest
from schemas.ids import content_id
from tests.brokers import free_ports

PORT = 2121
NETWORK = "127.77.0.0/16"
GRANT = "bench"
ROWS = """
SELECT f.addresses[1] AS address, toUnixTimestamp64Milli(s.started_at) AS started, toUnixTimestamp64Milli(s.recorded_at) AS recorded
FROM (SELECT addresses FROM findings FINAL WHERE rule = {rule:String}) AS f
INNER JOIN (SELECT addresses[1] AS address, started_at, recorded_at FROM sweeps FINAL) AS s ON s.address = f.addresses[1]
"""


def main() -> None:
    """Run the benchmark and print what it measured."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--events", type=int, default=150, help="target events, at most 250")
    arguments.add_argument("--rate", type=float, default=5.0, help="events a second")
    chosen = arguments.parse_args()
    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(prefix="driftline-bench-") as folder:
        _prepare(Path(folder))
        samples = _measure(min(chosen.events, 250), chosen.rate, console)
    _report(samples, chosen.rate)


def _prepare(folder: Path) -> None:
    """Own data, own ports; the roles are child processes and read the same environment."""
    broker, controller, store = free_ports(3)
    base = free_ports(1)[0]
    os.environ |= {
        "DRIFTLINE_DATA_DIR": str(folder),
        "DRIFTLINE_BROKER__PORT": str(broker),
        "DRIFTLINE_BROKER__CONTROLLER_PORT": str(controller),
        "DRIFTLINE_STORE__PORT": str(store),
        "DRIFTLINE_TELEMETRY__PORT_BASE": str(min(base, 60_000)),
    }


def _measure(events: int, rate: float, console: Console) -> list[tuple[float, float]]:
    settings = load_settings()
    configure_logs(settings.telemetry.model_copy(update={"log_level": "error"}), roles="bench")
    stop = threading.Event()
    supervisor = Supervisor(settings, progress=lambda text: console.print(f"[dim]{text}[/]"))
    addresses = [f"127.77.{number}.1" for number in range(1, events + 1)]
    servers = threading.Thread(target=_serve, args=(addresses, stop), daemon=True)
    servers.start()
    try:
        supervisor.start(stop)
        key = ensure_key(settings, GRANT, (NETWORK,))
        now = datetime.now(UTC)
        form = GrantForm((NETWORK,), now + timedelta(hours=1), tcp_ports=str(PORT), packets_per_second=100_000, per_host_per_second=1000, grant_id=GRANT)
        with publisher(settings) as outlet:
            create_grant(form, key, Desk(local_actor(), load_signers(settings), settings.zones, {}, outlet.publish), now)
            _push(outlet, "127.77.0.1", "warm-up")
        sent: dict[str, float] = {}
        begun = time.monotonic()
        seen = _Watcher(stop)
        seen.start()
        with publisher(settings) as outlet:
            for number, address in enumerate(track(addresses, "pushing", console=console)):
                time.sleep(max(0.0, begun + number / rate - time.monotonic()))
                sent[address] = time.time()
                _push(outlet, address, f"event-{number}")
        deadline = time.monotonic() + 60
        while len(seen.rows) < events and time.monotonic() < deadline:
            time.sleep(0.1)
        if len(seen.rows) < events:
            raise SystemExit(f"only {len(seen.rows)} of {events} findings arrived within 60 s: the measurement failed")
        return [(1000 * (seen.rows[one] - sent[one]), seen.probing[one]) for one in addresses]
    finally:
        stop.set()
        supervisor.stop()


def _push(outlet: object, address: str, name: str) -> None:
    from infra.kafka.client import Publisher

    assert isinstance(outlet, Publisher)
    request = TargetRequest(request_id=content_id("bench", name), targets=(address,), ports=str(PORT), probes=("ftp", "banner"), grant_id=GRANT)
    outlet.publish("targets", request.request_id, request)


class _Watcher(threading.Thread):
    """Asks ClickHouse every few milliseconds which findings are visible, and notes when each was first seen."""

    def __init__(self, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self._stop_all = stop
        self.rows: dict[str, float] = {}
        self.probing: dict[str, float] = {}

    def run(self) -> None:
        client = connect(load_settings())
        while not self._stop_all.wait(0.005):
            result = client.query(ROWS, parameters={"rule": "plaintext-login"})
            at = time.time()
            for address, started, recorded in result.result_rows:
                if address not in self.rows and address.startswith("127.77."):
                    self.rows[address] = at
                    self.probing[address] = float(recorded - started)


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
        while not stop.is_set():
            await asyncio.sleep(0.5)

    asyncio.run(serve())


def _report(samples: list[tuple[float, float]], rate: float) -> None:
    total = [one for one, _ in samples]
    probing = [one for _, one in samples]
    pipeline = [max(0.0, whole - part) for whole, part in samples]
    table = Table(title=f"{len(samples)} target events at {rate:g}/s, milliseconds", title_justify="left")
    for name in ("", "p50", "p99", "worst", "in order of arrival"):
        table.add_column(name)
    figures: dict[str, float] = {}
    for name, values in (("total", total), ("probing", probing), ("pipeline", pipeline)):
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        figures |= {f"{name}_p50_ms": round(cuts[49], 1), f"{name}_p99_ms": round(cuts[98], 1)}
        table.add_row(name, f"{cuts[49]:.0f}", f"{cuts[98]:.0f}", f"{max(values):.0f}", sparkline(values[:: max(1, len(values) // 40)]))
    Console(width=140).print(table)
    sys.stdout.write(json.dumps({"benchmark": "latency", "events": len(samples), "rate": rate, **figures, "bars": []}) + "\n")


if __name__ == "__main__":
    main()
