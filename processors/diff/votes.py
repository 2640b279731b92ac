"""What one unit says of one port, and when votes are enough to call a known service closed (DESIGN.md 4.4). Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from infra.core.settings import DifferSettings
from schemas.plain import HostPorts, Range, ServiceState, Sweep, Vote

SECOND = 1000


class Verdict(StrEnum):
    """What a look found at a port. `unknown`: unreachable or not probed, which says nothing."""

    ANSWERED = "answered"
    CLOSED = "closed"
    SILENT = "silent"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Look:
    """One unit's look at one host.

    `impact`: ports on which it stopped answering while it was probed. `first`: ports that answered and that no look was taken at before.
    """

    sweep: Sweep
    host: HostPorts
    impact: tuple[int, ...] = ()
    first: frozenset[int] = frozenset()

    @property
    def unit_id(self) -> str:
        """The unit."""
        return self.sweep["unit_id"]

    @property
    def transport(self) -> str:
        """What it probed with."""
        return self.sweep["transport"]

    @property
    def at(self) -> int:
        """When it was done, in ms since 1970."""
        return self.sweep["finished_at"]

    @property
    def recall(self) -> float:
        """The share of open ports that it finds."""
        return self.sweep["recall"]

    @property
    def alive(self) -> bool:
        """Whether the host gave any sign of life."""
        return bool(self.host["answered"] or self.host["closed"] or self.host["echo"])

    def verdict(self, port: int) -> Verdict:
        """What this look found at a port."""
        host = self.host
        if port in host["answered"]:
            return Verdict.ANSWERED
        if _holds(host["closed"], port):
            return Verdict.CLOSED
        if not _holds(self.sweep["ports"], port) or _holds(host["unreachable"], port) or _holds(host["not_probed"], port):
            return Verdict.UNKNOWN
        return Verdict.SILENT


def _holds(spans: Sequence[Range], port: int) -> bool:
    return any(span["first"] <= port <= span["last"] for span in spans)


def hosts_of(sweep: Sweep) -> dict[str, HostPorts | None]:
    """What a unit says of each host that it probed, by address; None of those that were silent throughout."""
    hosts: dict[str, HostPorts | None] = {host["address"]: host for host in sweep["hosts"]}
    for address in sweep["probed"]:
        hosts.setdefault(address)
    return hosts


def impact_on(sweep: Sweep, address: str) -> tuple[int, ...]:
    """The ports on which a host stopped answering while it was probed."""
    return tuple(one["port"] for one in sweep["impact"] if one["address"] == address)


def silent(address: str) -> HostPorts:
    """What a unit says of a host without naming it."""
    return {"address": address, "answered": [], "closed": [], "unreachable": [], "not_probed": [], "echo": False}


def as_of(service: ServiceState) -> int:
    """Up to when a service's state is known: what is not newer changes nothing."""
    last = service["last_seen"]
    if service["transitions"]:
        last = max(last, service["transitions"][-1])
    return max(last, service["votes"][-1]["at"]) if service["votes"] else last


def cast_vote(service: ServiceState, look: Look, settings: DifferSettings) -> ServiceState:
    """The service with the look's vote against it; the very same service if the look has no vote.

    No vote: a unit that has voted or seen it already, one too soon after the last vote, one older than what is known, and silence
    where the unit's recall is too low to mean anything.
    """
    verdict = look.verdict(service["port"])
    if verdict in (Verdict.ANSWERED, Verdict.UNKNOWN) or (verdict is Verdict.SILENT and look.recall < settings.min_recall):
        return service
    votes = service["votes"]
    if look.at <= as_of(service) or look.unit_id == service["unit_id"] or any(vote["unit_id"] == look.unit_id for vote in votes):
        return service
    if votes and look.at - votes[-1]["at"] < settings.spacing_seconds * SECOND:
        return service
    vote: Vote = {"unit_id": look.unit_id, "kind": "closed" if verdict is Verdict.CLOSED else "silent", "at": look.at}
    return {**service, "votes": [*votes, vote]}


def outvoted(service: ServiceState, settings: DifferSettings) -> bool:
    """Whether enough units missed the service to call it closed."""
    closed = sum(vote["kind"] == "closed" for vote in service["votes"])
    silent = len(service["votes"]) - closed
    return closed >= settings.closed_votes or silent >= settings.silent_votes
