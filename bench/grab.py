"""`make bench-grab`: services a second that the scanner's own grabbers look into in one process, before nmap is asked for anything.

Servers in processes of their own greet like SSH, answer like HTTP and shake hands like HTTPS on addresses of 127.78.0.0/16. The look of a
scanner's unit runs its banner, TLS and HTTP grabbers on them, with budgets that don't bind. A grab is one connection and what came of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ssl
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.measuring import cpu_seconds
from bench.report import Bar, tell
from infra.core.logs import configure_logs
from infra.core.settings import ScannerSettings, TelemetrySettings
from processors.scan.look import Look
from processors.scan.meter import Meter
from processors.scan.probe import Probe, load_probes
from schemas.events.targets import WorkUnit
from tests.scanning import NotingGate, make_certificate, make_unit, wait_until

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
        unit: WorkUnit = make_unit(addresses, str(KINDS[kind]))
        settings = ScannerSettings(hosts_at_once=AT_ONCE[kind], parallel_units=4)
        look = Look(unit, "bench", settings, 1, lambda: datetime.now(UTC), Meter(NotingGate(), unit))
        began, worked, served = time.perf_counter(), time.process_time(), cpu_seconds(server)
        asyncio.run(look.at_all(dict.fromkeys(addresses, (KINDS[kind],)), probes))
        took, work, serves = time.perf_counter() - began, time.process_time() - worked, cpu_seconds(server) - served
    seen = [one.services[0].service for one in look.observations()]
    if seen != [kind] * hosts:
        raise SystemExit(f"{hosts - seen.count(kind)} of {hosts} {kind} services were not recognised: the measurement failed")
    return hosts / took, hosts / work, 1000 * work / hosts, 1000 * serves / hosts


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
