"""Granted pieces cut into units of work: at most one subnet, one grant, and no more than a unit's time at its budget. Pure."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import TypeVar

from processors.plan.planning import Limits, Piece, Plan
from processors.plan.space import text_of
from schemas.events.base import PortRange, Transport
from schemas.events.targets import PinnedName, TargetRequest, WorkUnit
from schemas.ids import content_id
from schemas.portset import PortSets, ranges, show_port_sets

T = TypeVar("T")
MOST_ADDRESSES = 256
MOST_UNITS = 5_000  # all are written in one transaction, which must end within 10 s
# The other half of a unit's time is kept for naming the services that answered and for the path.
SWEEP_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Shape:
    """How big units under one grant may be, and their budgets."""

    addresses: int
    ports: int
    packets_per_second: int
    per_host_per_second: int


def run_id_of(request: TargetRequest) -> str:
    """The run of a request: the same however often the request arrives."""
    return content_id("run", request.request_id)


def shape_of(piece: Piece, limits: Limits) -> Shape:
    """The largest units that end in time. Addresses are divided before ports, so that a host's services stay in one unit.

    Zones that may look at the same host share its budget; each has a packet a second at least.
    """
    intensity = piece.entry.grant.intensity
    rate = max(1, min(intensity.packets_per_second, limits.packets_per_second) // piece.zones)
    host_rate = max(1, min(intensity.per_host_per_second, limits.per_host_per_second) // piece.zones)
    seconds = limits.unit_seconds * SWEEP_SHARE
    probes, host_probes = (max(1, int(one * seconds / limits.attempts)) for one in (rate, host_rate))
    ports = -(-len(piece.ports) // -(-len(piece.ports) // min(len(piece.ports), host_probes, probes)))
    return Shape(max(1, min(MOST_ADDRESSES, probes // ports)), ports, rate, host_rate)


def too_much(plan: Plan, limits: Limits) -> str | None:
    """Why a plan is more than one request may ask for, or None."""
    count = unit_count(plan, limits)
    if count > MOST_UNITS:
        parts = -(-count // MOST_UNITS)
        return (
            f"the request would be {count} units of work at its grants' intensity, the limit is {MOST_UNITS}: "
            f"divide it into {parts} or more requests of about equal size"
        )
    return None


def unit_count(plan: Plan, limits: Limits) -> int:
    """How many units a plan is."""
    count = 0
    for piece in plan.pieces:
        shape = shape_of(piece, limits)
        groups = -(-len(piece.ports) // shape.ports)
        count += sum(groups * -(-sum(part.size for part in parts) // shape.addresses) for _, parts in piece.where.by_subnet())
    return count


def units(request: TargetRequest, plan: Plan, planned_at: datetime, limits: Limits) -> Iterator[WorkUnit]:
    """The units of a plan, one by one, in an order and with ids that depend on nothing but request, plan and settings.

    They are valid for as long as all of them take one after the other, each its longest time, and the settings' time on top.
    """
    run_id = run_id_of(request)
    start = max(planned_at, request.not_before) if request.not_before else planned_at
    expires_at = start + limits.valid + timedelta(seconds=2 * limits.unit_seconds) * unit_count(plan, limits)
    for piece in plan.pieces:
        grant, shape = piece.entry.grant, shape_of(piece, limits)
        build = functools.partial(
            WorkUnit,
            run_id=run_id,
            campaign_id=request.campaign_id,
            zone=request.zone,
            probes=request.probes,
            grant_id=grant.grant_id,
            grant_revision=grant.revision,
            packets_per_second=shape.packets_per_second,
            per_host_per_second=shape.per_host_per_second,
            cause=request.cause,
            planned_at=planned_at,
            not_before=request.not_before,
            expires_at=expires_at,
        )
        groups = [port_sets(piece.transport, ranges(ports)) for ports in evenly(sorted(piece.ports), shape.ports)]
        for subnet, addresses in subnets(piece):
            for some in evenly(addresses, shape.addresses):
                pinned = pinned_in(some, plan)
                for sets in groups:
                    unit_id = content_id("unit", run_id, grant.grant_id, ",".join(some), show_port_sets(sets))
                    yield build(unit_id=unit_id, subnet=subnet, addresses=tuple(some), names=pinned, tcp_ports=sets.tcp, udp_ports=sets.udp)


def port_sets(transport: Transport, ports: tuple[PortRange, ...]) -> PortSets:
    """Ports of one transport: a unit has no others, so that its one SweepResult tells of all that it was to do."""
    return PortSets(udp=ports) if transport is Transport.UDP else PortSets(tcp=ports)


def subnets(piece: Piece) -> Iterator[tuple[str, list[str]]]:
    """The subnets of a piece and the addresses in each, as text."""
    for subnet, parts in piece.where.by_subnet():
        numbers = chain.from_iterable(range(part.first, part.last + 1) for part in parts)
        yield subnet, [text_of(parts[0].version, number) for number in numbers]


def pinned_in(addresses: Sequence[str], plan: Plan) -> tuple[PinnedName, ...]:
    """The names that stand for some of these addresses in this run."""
    names = plan.names or {}
    return tuple(PinnedName(name=name, address=one) for one in addresses for name in names.get(one, ())) if names else ()


def evenly(items: Sequence[T], most: int) -> Iterator[Sequence[T]]:
    """The items in the fewest groups of at most `most`, the groups as equal as can be."""
    groups = -(-len(items) // most)
    for number in range(groups):
        yield items[number * len(items) // groups : (number + 1) * len(items) // groups]
