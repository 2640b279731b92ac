"""Many small sweeps of one network in one process, for `bench.sweep_loss`: what each found, and what it says of its own recall.

Arguments: the grant's file, the network, the ports, how many sweeps. Prints a JSON line for each.
"""

from __future__ import annotations

import asyncio
import ipaddress
import json
import sys
from pathlib import Path

from infra.app.commands.sweep import covered, read_grant, unit_of, zone_of
from infra.core.settings import ScannerSettings, load_settings
from processors.scan.meter import Meter
from processors.scan.scope.local import LocalGate
from processors.scan.sweep.hosts import HostList
from processors.scan.sweep.ledger import Ledger
from processors.scan.sweep.recall import estimate
from processors.scan.sweep.syn import sweep_syn
from schemas.events.targets import WorkUnit
from schemas.portset import expand, parse_ports

AT_ONCE = 8


async def window(addresses: HostList, ports: tuple[int, ...], gate: LocalGate, unit: WorkUnit, settings: ScannerSettings) -> str:
    """One sweep: its findings, and its estimate with bounds."""
    ledger = Ledger(addresses, ports, settings.attempts)
    await sweep_syn(ledger, Meter(gate, unit), settings)
    found = [(address, port) for address, open_ports in ledger.answered().items() for port in open_ports]
    recall = estimate(ledger.answers_by_attempt, ledger.checked, ledger.lost, len(found))
    told = {"found": found, "recall": recall.recall, "low": recall.low, "high": recall.high, "loss": recall.loss}
    return json.dumps(told | {"attempts": len(ledger.answers_by_attempt)})


async def windows(
    count: int, addresses: HostList, ports: tuple[int, ...], gate: LocalGate, unit: WorkUnit, settings: ScannerSettings
) -> None:
    """So many of them, a few at once."""
    for start in range(0, count, AT_ONCE):
        size = min(AT_ONCE, count - start)
        for line in await asyncio.gather(*(window(addresses, ports, gate, unit, settings) for _ in range(size))):
            print(line, flush=True)


def main() -> None:
    """Sweep again and again."""
    path, network, wanted, count = sys.argv[1:]
    settings = load_settings()
    book, entry, _ = read_grant(Path(path), settings)
    zone = zone_of(entry, settings)
    spans, _ = covered([network], wanted, book, entry, zone)
    ports = expand(parse_ports(wanted))
    gate = LocalGate(book, entry.grant.grant_id, zone, entry.grant.intensity.packets_per_second)
    addresses = HostList.of_spans(spans)
    assert len(addresses) == ipaddress.ip_network(network).num_addresses
    asyncio.run(windows(int(count), addresses, ports, gate, unit_of(entry, zone, spans), settings.scanner))


if __name__ == "__main__":
    main()
