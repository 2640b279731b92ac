"""What is published for a unit: its results, or that nothing of it was probed, and the request to look at the rest. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.events.base import PortRange, Transport
from schemas.events.observations import HostObservation, SweepResult
from schemas.events.targets import TargetRequest, WorkUnit
from schemas.ids import content_id
from schemas.portset import expand, ranges, show_ports


class Report(Protocol):
    """What a run of a unit yields."""

    @property
    def sweeps(self) -> tuple[SweepResult, ...]:
        """Port states, one a transport."""

    @property
    def hosts(self) -> tuple[HostObservation, ...]:
        """What was learnt about hosts."""

    @property
    def packets(self) -> int:
        """Packets that were sent."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """All that a unit's transaction holds beside its offset. `error` also sends the record to the DLQ."""

    sweeps: tuple[SweepResult, ...] = ()
    hosts: tuple[HostObservation, ...] = ()
    rest: tuple[TargetRequest, ...] = ()
    error: Exception | None = None


@dataclass(frozen=True, slots=True)
class Attempt:
    """Who tried a unit, for the how-manieth time, with what, and when it ended."""

    agent_id: str
    number: int
    engine: str
    at: datetime


def not_probed(unit: WorkUnit, attempt: Attempt, reason: str, packets: int = 0) -> tuple[SweepResult, ...]:
    """The word that a unit ended and says nothing about any port: `probed` is empty, so silence is no evidence."""
    wanted = [(Transport.TCP, unit.tcp_ports)] if unit.tcp_ports or not unit.udp_ports else []
    wanted += [(Transport.UDP, unit.udp_ports)] if unit.udp_ports else []
    return tuple(
        SweepResult(
            unit_id=unit.unit_id,
            run_id=unit.run_id,
            campaign_id=unit.campaign_id,
            zone=unit.zone,
            subnet=unit.subnet,
            grant_id=unit.grant_id,
            agent_id=attempt.agent_id,
            attempt=attempt.number,
            engine=attempt.engine,
            transport=transport,
            probed=(),
            ports=ports,
            hosts=(),
            complete=False,
            stopped_reason=reason,
            packets_sent=packets if index == 0 else 0,
            loss=0.0,
            recall=0.0,
            recall_samples=0,
            started_at=attempt.at,
            finished_at=attempt.at,
        )
        for index, (transport, ports) in enumerate(wanted)
    )


def rest_of(unit: WorkUnit, report: Report) -> tuple[TargetRequest, ...]:
    """Requests for what a unit had no time for: TCP ports that were not probed, and answered ports of hosts that were not looked into.

    Hosts that lack the same ports share a request. Only a rest that is smaller than the unit is asked for: so a unit that gets nowhere is
    not planned for ever, and whatever is planned again ends. Names are not asked for again: their addresses are pinned.
    """
    looked_into = {one.address for one in report.hosts}
    ports = frozenset(expand(unit.tcp_ports))
    doubtful = {one.address for sweep in report.sweeps for one in sweep.quarantined}
    missing = {
        address: frozenset[int]()
        if address in doubtful
        else _missing(address, ports, report.sweeps, not unit.probes or address in looked_into)
        for address in unit.addresses
    }
    if sum(map(len, missing.values())) >= len(unit.addresses) * len(ports):
        return ()
    alike: dict[tuple[PortRange, ...], list[str]] = defaultdict(list)
    for address, lacking in missing.items():
        if lacking:
            alike[ranges(lacking)].append(address)
    return tuple(
        TargetRequest(
            request_id=content_id("rest", unit.unit_id, number),
            zone=unit.zone,
            targets=tuple(addresses),
            ports=show_ports(spans),
            probes=unit.probes,
            grant_id=unit.grant_id,
            campaign_id=unit.campaign_id,
            cause=unit.cause,
            requested_by=f"rest of unit {unit.unit_id}",
        )
        for number, (spans, addresses) in enumerate(alike.items())
    )


def _missing(address: str, ports: frozenset[int], sweeps: Iterable[SweepResult], looked_into: bool) -> frozenset[int]:
    sweep = next((one for one in sweeps if one.transport is Transport.TCP), None)
    if sweep is None or address not in sweep.probed:
        return ports
    host = next((one for one in sweep.hosts if one.address == address), None)
    if host is None:
        return frozenset()
    lacking = frozenset(expand(host.not_probed))
    return lacking if looked_into else lacking | frozenset(host.answered)
