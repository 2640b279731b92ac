"""The scanner: takes units of work, probes what its grants cover, publishes what it saw. This wires it; `scanner` is its loop."""

from __future__ import annotations

import socket
from threading import Event as Flag

from infra.core.clock import SteadyClock
from infra.core.ports import Ready
from infra.core.settings import Settings
from processors.scan.heartbeat import Identity
from processors.scan.scanner import run_scanner
from processors.scan.scope.gate import Gate
from processors.scan.unit import Surroundings, UnitReport, capabilities, choose_engine, run_unit
from schemas.events.targets import WorkUnit


def agent_id(settings: Settings) -> str:
    """Who this scanner is: as set, else the host's name and the worker's slot."""
    return settings.scanner.agent_id or f"{socket.gethostname()}-{settings.slot}"


def run(settings: Settings, stop: Flag, ready: Ready) -> None:
    """Scan until `stop` is set, then drain. Raises DriftlineError for what a person must mend."""
    engine, _ = choose_engine(settings.scanner)
    name, clock = agent_id(settings), SteadyClock()

    longest = 60.0 * settings.planner.unit_minutes_valid  # the gate ends a unit long before: it knows which waiting counts

    async def probe(unit: WorkUnit, gate: Gate, attempt: int) -> UnitReport:
        return await run_unit(unit, Surroundings(name, settings.scanner, gate, engine, attempt, clock.now, longest))

    run_scanner(settings, Identity(name, settings.scanner.zone, engine, capabilities(), clock.now()), probe, stop, ready, clock)
