"""`make bench-grab`: services a second that the scanner's own grabbers look into in one process, before nmap is asked for anything.

Servers in processes of their own greet like SSH, answer like HTTP and shake hands like HTTPS on addresses of 127.78.0.0/16. The look of a
scanner's unit runs its banner, TLS and HTTP grabbers on them, with budgets that don't bind. A grab is one connection and what came of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import math
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measuring import cpu_seconds
from bench.report import Bar, tell
from infra.core.clock import uptime
from infra.core.logs import configure_logs
from infra.core.settings import ScannerSettings, Settings, TelemetrySettings
from processors.scan.look import Look
from processors.scan.meter import Meter
from processors.scan.probe import Probe, load_probes
from processors.scan.scope.admission import ScannerGate, UnitGate
from processors.scan.scope.orders import Orders
from schemas.events.base import PortRange
from schemas.events.grants import Grant, Intensity
from schemas.events.targets import WorkUnit
from schemas.scope import GrantBook, KnownGrant
from tests.scanning import make_certificate, make_unit, wait_until

NETWORK = "127.78.0.0/16"
MOST = 100_000_000  # packets a second: no budget binds
KINDS = {"ssh": 2222, "http": 8080, "https": 8443}
PROBES = {"ssh": ("banner",), "http": ("banner", "tls", "http"), "https": ("banner", "tls", "http")}
AT_ONCE = {"ssh": 512, "http": 512, "https": 64}
"""Services that are talked to at once. Handshakes are work, not waiting: more of them at once end none sooner, and the last too late."""
LEAST_RATE = 1000
TOLD = {
    "per_s": "services/s",
    "per_cpu_s": "a second of our CPU",
    "cpu_s_per_1000": "our CPU s per 1,000",
    "servers_cpu_s_per_1000": "the servers' CPU s per 1,000",
}
"""What is measured of each kind. Servers and grabbers share the machine: what a core of ours would do alone is the second."""
PAGE = b"HTTP/1.1 200 OK\r\nServer: nginx/1.22.1\r\nContent-Length: 28\r\nConnection: close\r\n\r\n<html><title>A</title></html>"


def main() -> None:
    """Run the benchmark and print what it measured; or, in a child, serve."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--hosts", type=int, default=2000)
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--serve", nargs=2, metavar=("KIND", "FOLDER"), help=argparse.SUPPRESS)
    chosen = arguments.parse_args()
    if chosen.serve:
        asyncio.run(serve(chosen.serve[0], Path(chosen.serve[1])))
        return
    configure_logs(TelemetrySettings(log_level="error"))
    measure("ssh", 10)  # loads the table of rules
    rounds = {kind: [measure(kind, chosen.hosts) for _ in range(chosen.rounds)] for kind in KINDS}
    figures = {kind: [statistics.median(column) for column in zip(*found, strict=True)] for kind, found in rounds.items()}
    title = f"{chosen.hosts} services on loopback, one process, medians of {chosen.rounds}"
    table = Table(title=title, title_justify="left")
    for name in ("", *TOLD.values()):
        table.add_column(name)
    for kind, found in figures.items():
        table.add_row(f"{kind}: {', '.join(PROBES[kind])}", *(f"{figure:,.0f}" if figure >= 10 else f"{figure:.2f}" for figure in found))
    Console(width=140).print(table)
    rate = round(figures["ssh"][0])
    bars = [Bar("SSH greetings/s", rate, "at_least", LEAST_RATE)]
    told = {
        f"{kind}_{name}": round(one) if one >= 10 else round(one, 3)
        for kind, found in figures.items()
        for name, one in zip(TOLD, found, strict=True)
    }
    tell("grab", {"hosts": chosen.hosts, **told}, bars)


def measure(kind: str, hosts: int) -> tuple[float, float, float, float]:
    """What `TOLD` names, of services of one kind that were looked into and recognised. SystemExit if one was not."""
    addresses = [f"127.78.{number // 250}.{number % 250 + 1}" for number in range(hosts)]
    table = load_probes()
    with serving(kind) as server:
        probes: list[Probe] = [table[name] for name in PROBES[kind]]
        unit = make_unit(addresses, str(KINDS[kind])).model_copy(
            update={"packets_per_second": MOST, "per_host_per_second": MOST, "expires_at": datetime.now(UTC) + timedelta(hours=1)}
        )
        settings = ScannerSettings(hosts_at_once=AT_ONCE[kind], parallel_units=4, packets_per_second=MOST, per_host_per_second=MOST)
        look = Look(unit, "bench", settings, 1, lambda: datetime.now(UTC), Meter(open_gate(unit, settings), unit))
        began, worked, served = time.perf_counter(), time.process_time(), cpu_seconds(server)
        asyncio.run(look.at_all(dict.fromkeys(addresses, (KINDS[kind],)), probes))
        took, work, serves = time.perf_counter() - began, time.process_time() - worked, cpu_seconds(server) - served
    seen = [one.services[0].service for one in look.observations()]
    if seen != [kind] * hosts:
        raise SystemExit(f"{hosts - seen.count(kind)} of {hosts} {kind} services were not recognised: the measurement failed")
    return hosts / took, hosts / work, 1000 * work / hosts, 1000 * serves / hosts


def open_gate(unit: WorkUnit, settings: ScannerSettings) -> UnitGate:
    """The scanner's own gate, with a grant for these addresses whose budgets do not bind."""
    now = datetime.now(UTC)
    grant = Grant(
        grant_id=unit.grant_id,
        revision=1,
        zones=(unit.zone,),
        networks=(NETWORK,),
        tcp_ports=(PortRange(first=1, last=65535),),
        intensity=Intensity(packets_per_second=MOST, per_host_per_second=MOST),
        valid_from=now - timedelta(hours=1),
        expires_at=now + timedelta(hours=1),
        issued_by="bench",
        signer="bench",
    )
    rules = Rules(GrantBook((), known={grant.grant_id: KnownGrant(grant, (ip_network(NETWORK),), ())}))
    scanner = ScannerGate(Settings(scanner=settings), rules, uptime, lambda: datetime.now(UTC))
    scanner.owned, scanner.contact_at = scanner.settings.kafka.partitions, math.inf
    return UnitGate(scanner, unit)


@dataclass(slots=True)
class Rules:
    """What counts, known just now at any moment."""

    book: GrantBook
    orders: Orders = field(default_factory=Orders)
    fresh_at: float = math.inf


@contextlib.contextmanager
def serving(kind: str) -> Iterator[int]:
    """A server of this kind in a process of its own, by its number."""
    with tempfile.TemporaryDirectory(prefix="driftline-grab-") as folder:
        make_certificate(Path(folder), "grab.example")
        process = subprocess.Popen([sys.executable, "-m", "bench.grab", "--serve", kind, folder])
        try:
            wait_until(lambda: (Path(folder) / "ready").exists())
            yield process.pid
        finally:
            process.terminate()
            process.wait()


async def serve(kind: str, folder: Path) -> None:
    """Answer until ended."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if kind == "ssh":
            writer.write(b"SSH-2.0-OpenSSH_9.2p1 Debian-2+deb12u3\r\n")
        with contextlib.suppress(OSError):
            asked = await reader.read(4096)
            writer.write(PAGE if asked.startswith(b"GET") else b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
        writer.close()

    context = None
    if kind == "https":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "grab.example.crt", folder / "grab.example.key")
    server = await asyncio.start_server(talk, "0.0.0.0", KINDS[kind], ssl=context, backlog=4096)
    (folder / "ready").touch()
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    main()
