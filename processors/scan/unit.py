"""One unit of work, from its ports to its report: sweep, then a closer look at what answered. Every packet passes the gate.

This is what the scanner's runtime calls; it knows nothing of Kafka. Order within a unit:
1. sweep every TCP port of every address (`sweep_syn` or `sweep_connect`), which writes the ledger of port states;
2. run the service probes on each answered port, then the host probes, and merge what they say;
   beside both, hosts that answered are asked now and then whether they still do (`watchman`);
3. report. When the gate halts the unit, or its time is over, the report holds what was finished, and says so.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import structlog

from infra.core.errors import MissingPrerequisite
from infra.core.settings import ScannerSettings
from processors.scan.look import Look
from processors.scan.meter import Meter
from processors.scan.probe import choose_probes, lacks, load_probes, raw_sockets
from processors.scan.scope.gate import Gate, Halted
from processors.scan.sweep.connect import sweep_connect
from processors.scan.sweep.ledger import Ledger, PortState
from processors.scan.sweep.recall import estimate
from processors.scan.sweep.syn import refused_by_kernel, sweep_syn
from processors.scan.watchman import Watchman
from processors.scan.workers import watched
from schemas.events.base import Transport
from schemas.events.observations import HostObservation, HostPorts, Quarantine, SweepResult
from schemas.events.targets import WorkUnit
from schemas.portset import expand

LIMIT_SECONDS = 180.0  # a unit is planned to sweep for 60 s at its budget; slow services need their time after that

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class UnitReport:
    """What a unit found: its SweepResults (one a transport), its HostObservations, and the number of packets sent in all."""

    sweeps: tuple[SweepResult, ...]
    hosts: tuple[HostObservation, ...]
    packets: int


@dataclass(frozen=True, slots=True)
class Surroundings:
    """All that a unit needs from its scanner. `engine` is `choose_engine`'s first word, `attempt` counts deliveries of the unit from 1."""

    agent_id: str
    settings: ScannerSettings
    gate: Gate
    engine: str
    attempt: int
    now: Callable[[], datetime]
    limit_seconds: float = LIMIT_SECONDS


async def run_unit(unit: WorkUnit, surroundings: Surroundings) -> UnitReport:
    """Do all of a unit's work. Raises nothing for what hosts do; a halt or the end of its time gives a partial report."""
    started = surroundings.now()
    meter = Meter(surroundings.gate, unit)
    ledger = Ledger(filter(is_plain, unit.addresses), expand(unit.tcp_ports), surroundings.settings.attempts)
    engine = surroundings.engine
    look = Look(unit, surroundings.agent_id, surroundings.settings, surroundings.attempt, surroundings.now, meter)
    swept = 0

    async def work() -> None:
        nonlocal swept
        try:
            await sweep(engine, ledger, meter, surroundings.settings, watchman)
        finally:
            swept = meter.sent
        await look.at_all(ledger.answered(), choose_probes(load_probes(), unit.probes, surroundings.gate.allows_intrusive()))

    stopped, watchman = "", Watchman(ledger, meter, unit.packets_per_second)
    try:
        await watched(watchman.beside(work()), meter.recheck, surroundings.limit_seconds)
    except Halted as halt:
        stopped = halt.reason
    except TimeoutError:
        stopped = f"it took longer than {surroundings.limit_seconds:.0f} s"
    log.info("unit_done", unit=unit.unit_id, engine=engine, packets=meter.sent, refused=len(ledger.refused), stopped=stopped)
    result = sweep_result(unit, surroundings, ledger, engine, started).model_copy(
        update={"packets_sent": swept, "complete": not stopped, "stopped_reason": stopped, "impact": watchman.impact()}
    )
    sweeps = [result] if unit.tcp_ports or not unit.udp_ports else []
    if unit.udp_ports:
        sweeps.append(udp_not_probed(unit, result))
    return UnitReport(sweeps=tuple(sweeps), hosts=look.observations(), packets=meter.sent)


async def sweep(engine: str, ledger: Ledger, meter: Meter, settings: ScannerSettings, watchman: Watchman) -> None:
    """Fill the ledger. A SYN sweep that the kernel refuses is finished by connects."""
    if not ledger.addresses:
        return
    if engine == "syn":
        try:
            watchman.asks = False
            await sweep_syn(ledger, meter, settings, watchman)
        except OSError as error:
            log.warning("syn_sweep_failed", error=str(error))
        else:
            return
        finally:
            watchman.asks = True
    await sweep_connect(ledger, meter, settings)


def sweep_result(unit: WorkUnit, surroundings: Surroundings, ledger: Ledger, engine: str, started: datetime) -> SweepResult:
    """The ledger as an event, as if complete."""
    found = int(np.count_nonzero(ledger.states == PortState.ANSWERED))
    recall = estimate(ledger.answers_by_attempt, ledger.checked, ledger.lost, found)
    skipped = tuple(HostPorts(address=one, not_probed=unit.tcp_ports) for one in unit.addresses if one not in ledger.addresses)
    return SweepResult(
        unit_id=unit.unit_id,
        run_id=unit.run_id,
        campaign_id=unit.campaign_id,
        zone=unit.zone,
        subnet=unit.subnet,
        grant_id=unit.grant_id,
        agent_id=surroundings.agent_id,
        attempt=surroundings.attempt,
        engine=engine,
        probed=ledger.probed(),
        ports=unit.tcp_ports,
        hosts=ledger.hosts() + skipped,
        packets_sent=0,
        loss=recall.loss,
        recall=recall.recall,
        recall_low=recall.low,
        recall_high=recall.high,
        recall_samples=recall.samples,
        drops=ledger.drops,
        quarantined=tuple(Quarantine(address=address, reason=reason) for address, reason in sorted(ledger.quarantined.items())),
        started_at=started,
        finished_at=surroundings.now(),
    )


def udp_not_probed(unit: WorkUnit, tcp: SweepResult) -> SweepResult:
    """What is said of UDP ports, which no sweep here can probe: nothing was probed, so nothing is claimed."""
    nothing: dict[str, object] = {"transport": Transport.UDP, "engine": "none", "probed": (), "ports": unit.udp_ports, "packets_sent": 0}
    hosts = tuple(HostPorts(address=address, not_probed=unit.udp_ports) for address in unit.addresses)
    told = {
        "hosts": hosts,
        "recall_samples": 0,
        "quarantined": (),
        "complete": False,
        "stopped_reason": "UDP ports are not probed by this scanner",
    }
    return tcp.model_copy(update={**nothing, **told})


def is_plain(address: str) -> bool:
    """Whether it is an address in its one canonical form, no scope, no IPv4 in IPv6's clothes: anything else is never probed."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return str(parsed) == address and "%" not in address and getattr(parsed, "ipv4_mapped", None) is None


def choose_engine(settings: ScannerSettings) -> tuple[str, str]:
    """`syn` or `connect` by what the machine allows, and why. Raises MissingPrerequisite if the settings demand `syn` in vain."""
    if settings.engine == "connect":
        return "connect", "the settings say so"
    problem = why_not_syn()
    if problem is None:
        return "syn", "raw sockets are allowed"
    if settings.engine == "syn":
        raise MissingPrerequisite(f"The SYN sweep can't run: {problem}.", "Run as root, or set DRIFTLINE_SCANNER__ENGINE=connect.")
    return "connect", problem


def why_not_syn() -> str | None:
    """What stands against the SYN sweep on this machine, or None."""
    if not raw_sockets():
        return "raw sockets need root or CAP_NET_RAW"
    return refused_by_kernel()


def capabilities() -> tuple[str, ...]:
    """Names of the probes that can run here, sorted."""
    return tuple(sorted(name for name, probe in load_probes().items() if not lacks(probe.traits)))
