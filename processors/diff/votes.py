"""What one unit says of one port, and when votes are enough to call a known service closed (DESIGN.md 4.4). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from infra.core.settings import DifferSettings
from schemas.events.assets import ServiceState, Vote, VoteKind
from schemas.events.base import PortRange, Transport
from schemas.events.observations import HostPorts, SweepResult
from schemas.portset import holds


class Verdict(StrEnum):
    """What a look found at a port. `unknown`: unreachable or not probed, which says nothing."""

    ANSWERED = "answered"
    CLOSED = "closed"
    SILENT = "silent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Look:
    """One unit's look at one host. `impact`: ports on which it stopped answering while it was probed."""

    unit_id: str
    grant_id: str
    zone: str
    subnet: str
    address: str
    transport: Transport
    ports: tuple[PortRange, ...]
    host: HostPorts
    recall: float
    at: datetime
    impact: tuple[int, ...] = ()

    @property
    def alive(self) -> bool:
        """Whether the host gave any sign of life."""
        return bool(self.host.answered or self.host.closed)

    def verdict(self, port: int) -> Verdict:
        """What this look found at a port."""
        if port in self.host.answered:
            return Verdict.ANSWERED
        if holds(self.host.closed, port):
            return Verdict.CLOSED
        if not holds(self.ports, port) or holds(self.host.unreachable, port) or holds(self.host.not_probed, port):
            return Verdict.UNKNOWN
        return Verdict.SILENT


def looks(sweep: SweepResult) -> tuple[Look, ...]:
    """One look for every host of a unit, those that were silent throughout included."""
    hosts = {host.address: host for host in sweep.hosts}
    for address in sweep.probed:
        hosts.setdefault(address, HostPorts(address=address))
    return tuple(
        Look(
            unit_id=sweep.unit_id,
            grant_id=sweep.grant_id,
            zone=sweep.zone,
            subnet=sweep.subnet,
            address=address,
            transport=sweep.transport,
            ports=sweep.ports,
            host=host,
            recall=sweep.recall,
            at=sweep.finished_at,
            impact=tuple(one.port for one in sweep.impact if one.address == address),
        )
        for address, host in hosts.items()
    )


def as_of(service: ServiceState) -> datetime:
    """Up to when a service's state is known: what is not newer changes nothing."""
    return max((service.last_seen, *service.transitions[-1:], *(vote.at for vote in service.votes[-1:])))


def cast_vote(service: ServiceState, look: Look, settings: DifferSettings) -> ServiceState:
    """The service with the look's vote against it; the very same service if the look has no vote.

    No vote: a unit that has voted or seen it already, one too soon after the last vote, one older than what is known, and silence
    where the unit's recall is too low to mean anything.
    """
    verdict = look.verdict(service.port)
    if verdict in (Verdict.ANSWERED, Verdict.UNKNOWN) or (verdict is Verdict.SILENT and look.recall < settings.min_recall):
        return service
    if look.at <= as_of(service) or look.unit_id == service.unit_id or any(vote.unit_id == look.unit_id for vote in service.votes):
        return service
    if service.votes and look.at - service.votes[-1].at < timedelta(seconds=settings.spacing_seconds):
        return service
    kind = VoteKind.CLOSED if verdict is Verdict.CLOSED else VoteKind.SILENT
    return service.model_copy(update={"votes": (*service.votes, Vote(unit_id=look.unit_id, kind=kind, at=look.at))})


def outvoted(service: ServiceState, settings: DifferSettings) -> bool:
    """Whether enough units missed the service to call it closed."""
    closed = sum(vote.kind is VoteKind.CLOSED for vote in service.votes)
    silent = len(service.votes) - closed
    return closed >= settings.closed_votes or silent >= settings.silent_votes
