"""One unit of work, from its ports to its report: sweep, then a closer look at what answered. Every packet passes the gate.

This is what the scanner's runtime calls; it knows nothing of Kafka. Order within a unit:
1. ask which addresses are there at all, where the unit names a probe that does (`ping`);
2. sweep every TCP port of every address (`sweep_syn` or `sweep_connect`), which writes the ledger of port states;
3. run the service probes on each answered port, then the host probes, and merge what they say;
4. sweep every UDP port (`UdpSweep`), whose answers say at once what the service is;
   beside all this, hosts that answered are asked now and then whether they still do (`watchman`);
5. report. When the gate halts the unit, or its time is over, the report holds what was finished, and says so.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import structlog

from infra.core.errors import MissingPrerequisite
from infra.core.settings import ScannerSettings
from processors.scan.look import Look
from processors.scan.meter import Meter
from processors.scan.probe import AddressProbe, choose_probes, lacks, load_probes, raw_sockets
from processors.scan.scope.gate import Gate, Halted
from processors.scan.sweep.connect import sweep_connect
from processors.scan.sweep.ledger import Ledger, PortState
from processors.scan.sweep.recall import Recall, estimate
from processors.scan.sweep.syn import refused_by_kernel, sweep_syn
from processors.scan.sweep.udp import UdpSweep
from processors.scan.watchman import Watchman
from processors.scan.workers import watched
from schemas.events.base import Transport
from schemas.events.observations import HostObservation, HostPorts, Impact, Quarantine, SweepResult
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
    settings = surroundings.settings
    ledger = Ledger(filter(is_plain, unit.addresses), expand(unit.tcp_ports), settings.attempts)
    udp = UdpSweep(Ledger(ledger.addresses, expand(unit.udp_ports), settings.attempts), meter, settings)
    engine = surroundings.engine
    look = Look(unit, surroundings.agent_id, settings, surroundings.attempt, surroundings.now, meter)
    probes = choose_probes(load_probes(), unit.probes, surroundings.gate.allows_intrusive())
    alive: set[str] = set()
    packets = dict.fromkeys(Transport, 0)

    async def work() -> None:
        for probe in probes:
            if isinstance(probe, AddressProbe):
                alive.update(await probe.look(tuple(ledger.addresses), meter, settings))
        with counted(packets, Transport.TCP, meter):
            await sweep(engine, ledger, meter, settings, watchman)
        await look.at_all(ledger.answered(), [one for one in probes if not isinstance(one, AddressProbe)])
        with counted(packets, Transport.UDP, meter):
            await udp.run()

    stopped, watchman = "", Watchman(ledger, meter, unit.packets_per_second)
    try:
        await watched(watchman.beside(work()), meter.recheck, surroundings.limit_seconds)
    except Halted as halt:
        stopped = halt.reason
    except TimeoutError:
        stopped = f"it took longer than {surroundings.limit_seconds:.0f} s"
    look.hear(udp.heard)
    for address, reason in look.deceptive.items():
        ledger.quarantine(address, reason)
    refused = len(ledger.refused) + len(udp.ledger.refused)
    log.info("unit_done", unit=unit.unit_id, engine=engine, packets=meter.sent, refused=refused, stopped=stopped)
    results = []
    if unit.tcp_ports or not unit.udp_ports:
        results.append(sweep_result(unit, surroundings, ledger, recall_of(ledger), started, impact=watchman.impact()))
    if unit.udp_ports:
        results.append(sweep_result(unit, surroundings, udp.ledger, recall_of_udp(udp), started, Transport.UDP))
    ended = {"complete": not stopped, "stopped_reason": stopped}
    results = [living(one.model_copy(update={"packets_sent": packets[one.transport], **ended}), alive) for one in results]
    return UnitReport(sweeps=tuple(results), hosts=look.observations(), packets=meter.sent)


@contextmanager
def counted(packets: dict[Transport, int], transport: Transport, meter: Meter) -> Iterator[None]:
    """Count the packets that leave meanwhile, also when it is halted."""
    before = meter.sent
    try:
        yield
    finally:
        packets[transport] += meter.sent - before


def living(result: SweepResult, alive: Collection[str]) -> SweepResult:
    """The result with the word that these addresses answered an echo: a sign of life, and no service."""
    known = {host.address: host for host in result.hosts}
    hosts = known | {address: known.get(address, HostPorts(address=address)).model_copy(update={"echo": True}) for address in sorted(alive)}
    return result.model_copy(update={"hosts": tuple(hosts.values())})


async def sweep(engine: str, ledger: Ledger, meter: Meter, settings: ScannerSettings, watchman: Watchman) -> None:
    """Fill the ledger. A SYN sweep that the kernel refuses is finished by connects."""
    if not (ledger.addresses and ledger.ports):
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


def sweep_result(
    unit: WorkUnit,
    surroundings: Surroundings,
    ledger: Ledger,
    recall: Recall,
    started: datetime,
    transport: Transport = Transport.TCP,
    impact: tuple[Impact, ...] = (),
) -> SweepResult:
    """The ledger of one transport's sweep as an event, as if complete."""
    udp = transport is Transport.UDP
    ports = unit.udp_ports if udp else unit.tcp_ports
    skipped = tuple(HostPorts(address=one, not_probed=ports) for one in unit.addresses if one not in ledger.addresses)
    return SweepResult(
        unit_id=unit.unit_id,
        run_id=unit.run_id,
        campaign_id=unit.campaign_id,
        zone=unit.zone,
        subnet=unit.subnet,
        grant_id=unit.grant_id,
        agent_id=surroundings.agent_id,
        attempt=surroundings.attempt,
        engine="udp" if udp else surroundings.engine,
        transport=transport,
        probed=ledger.probed(),
        ports=ports,
        hosts=ledger.hosts() + skipped,
        packets_sent=0,
        loss=recall.loss,
        recall=recall.recall,
        recall_low=recall.low,
        recall_high=recall.high,
        recall_samples=recall.samples,
        drops=ledger.drops,
        quarantined=tuple(Quarantine(address=address, reason=reason) for address, reason in sorted(ledger.quarantined.items())),
        impact=impact,
        started_at=started,
        finished_at=surroundings.now(),
    )


def recall_of(ledger: Ledger) -> Recall:
    """What a TCP sweep found of what is open, by its answers and its checks."""
    return estimate(ledger.answers_by_attempt, ledger.checked, ledger.lost, _answered(ledger))


def recall_of_udp(udp: UdpSweep) -> Recall:
    """The same of a UDP sweep, by answers alone, not by what is closed."""
    return estimate(udp.answers_by_attempt, found=_answered(udp.ledger))


def _answered(ledger: Ledger) -> int:
    return int(np.count_nonzero(ledger.states == PortState.ANSWERED))


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
