"""What of a request may be looked at, under which grant, in which units. Pure: names come resolved, time comes from the record."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from infra.core.settings import PlannerSettings, ScannerSettings
from processors.plan.space import Space, space, space_of, text_of
from schemas.events.base import PortRange, Transport
from schemas.events.targets import Refusal, TargetRequest
from schemas.portset import expand, parse_port_sets, parse_ports, ranges, show_ports
from schemas.scope import GrantBook, KnownGrant, standing
from schemas.targeting import HostName, parse_target, show, span_of, too_many

Ports = frozenset[int]
Lacking = tuple[Space, Ports, Transport]
Resolved = Mapping[str, tuple[str, ...]]
MOST_REFUSALS = 1000
MOST_DELAY = timedelta(minutes=2)  # nothing behind a unit that waits can be published


@dataclass(frozen=True, slots=True)
class Limits:
    """The planner's settings as planning needs them. `packets_per_second` and `per_host_per_second` cap what a grant allows."""

    zones: tuple[str, ...]
    default_ports: Ports
    max_addresses: int
    unit_seconds: int
    valid: timedelta
    packets_per_second: int
    per_host_per_second: int
    attempts: int

    @classmethod
    def of(cls, zones: tuple[str, ...], planner: PlannerSettings, scanner: ScannerSettings) -> Limits:
        """From the settings. Raises ValueError if the default ports are no set of ports."""
        return cls(
            zones=zones,
            default_ports=frozenset(expand(parse_ports(planner.default_ports))),
            max_addresses=planner.max_addresses,
            unit_seconds=planner.unit_seconds,
            valid=timedelta(minutes=planner.unit_minutes_valid),
            packets_per_second=scanner.packets_per_second,
            per_host_per_second=scanner.host_limit,
            attempts=scanner.attempts,
        )


@dataclass(frozen=True, slots=True)
class Authority:
    """The grants as they are believed, those that are not with the reason, and the moment that counts."""

    book: GrantBook
    disbelieved: Mapping[str, str]
    now: datetime


@dataclass(frozen=True, slots=True)
class Piece:
    """Addresses × ports of one transport under one grant. `zones`: how many zones may look at them, which share a host's budget."""

    entry: KnownGrant
    where: Space
    ports: Ports
    transport: Transport = Transport.TCP
    zones: int = 1


@dataclass(frozen=True, slots=True)
class Plan:
    """What is granted of a request, and what is refused. `excluded` counts addresses that a grant of the zone excludes."""

    pieces: tuple[Piece, ...] = ()
    names: Mapping[str, tuple[str, ...]] | None = None
    refused: tuple[Refusal, ...] = ()
    excluded: int = 0

    @property
    def addresses(self) -> int:
        """How many different addresses are planned."""
        return space(span for piece in self.pieces for span in piece.where.spans).size

    @property
    def ports(self) -> int:
        """How many different ports are planned."""
        return len({(piece.transport, port) for piece in self.pieces for port in piece.ports})


def refuse_all(request: TargetRequest, reason: str) -> Plan:
    """A plan that plans nothing."""
    return Plan(refused=tuple(Refusal(target=show(target), reason=reason) for target in request.targets))


def objection(request: TargetRequest, limits: Limits, now: datetime) -> str | None:
    """Why nothing of a request can be planned whatever its targets are, or None."""
    if request.zone not in limits.zones:
        return f"there is no zone '{show(request.zone)}' here; the zones are {', '.join(limits.zones)}"
    if request.not_before and request.not_before - now > MOST_DELAY:
        return f"not_before is more than {MOST_DELAY.total_seconds() / 60:.0f} minutes ahead; push it nearer to the time"
    if request.ports is not None:
        try:
            parse_port_sets(request.ports)
        except ValueError as error:
            return str(error)
    return None


def names_in(request: TargetRequest) -> list[str]:
    """The names among a request's targets, which must be resolved before it is planned."""
    found: dict[str, None] = {}
    for target in request.targets:
        try:
            parsed = parse_target(target)
        except ValueError:
            continue
        if isinstance(parsed, HostName):
            found[parsed.text] = None
    return list(found)


def plan(request: TargetRequest, resolved: Resolved, authority: Authority, limits: Limits) -> Plan:
    """Match a request against the grants. Names that are not in `resolved` did not resolve."""
    problem = objection(request, limits, authority.now)
    if problem:
        return refuse_all(request, problem)
    refused: list[Refusal] = []
    wanted, names = _read(request.targets, resolved, limits, refused)
    valid = authority.book.of_zone(request.zone, authority.now)
    holes = space(span for one in valid for span in space_of(one.exclusions).spans)
    usable = [one for one in valid if request.grant_id in (None, one.grant.grant_id) and standing(one, request.zone, authority.now) is None]
    whole = space(span for _, one in wanted for span in one.spans)
    wanted_ports = ports_wanted(request, limits)
    granted = space(span for one in usable for span in space_of(one.networks).spans)
    others = reach_of_others(request.zone, authority)
    pieces: list[Piece] = []
    lacking: list[Lacking] = []
    for transport, ports in wanted_ports.items():
        covered, rest = cover(whole.minus(holes), ports, usable, transport)
        pieces += [part for piece in covered for part in by_zones(piece, others)]
        # A default port that is not granted is left out in silence, unless none is granted at all.
        lacking += [(where.common(granted), left, transport) for where, left in rest if request.ports is not None or left == ports]
    fine = whole.minus(holes).common(granted).minus(space(span for where, _, _ in lacking for span in where.spans))
    for text, one in wanted:
        if one.minus(fine):
            refused += _reasons(text, one, Shortfall(holes, granted, tuple(lacking)), request, authority)
    return Plan(tuple(pieces), names, tuple(refused), whole.common(holes).size)


def ports_wanted(request: TargetRequest, limits: Limits) -> dict[Transport, Ports]:
    """The ports that a request names, by transport; without any, the default ones of TCP. Raises ValueError for what is no set of ports."""
    if request.ports is None:
        return {Transport.TCP: limits.default_ports}
    sets = parse_port_sets(request.ports)
    return {transport: frozenset(expand(sets.of(transport))) for transport in Transport if sets.of(transport)}


def cover(
    where: Space, ports: Ports, grants: Iterable[KnownGrant], transport: Transport = Transport.TCP
) -> tuple[list[Piece], list[tuple[Space, Ports]]]:
    """Give each (address, port) to the first grant that covers it; what none covers is returned too, each address at most once."""
    pieces: list[Piece] = []
    rest = [(where, ports)] if where and ports else []
    for entry in grants:
        granted = entry.grant.udp_ports if transport is Transport.UDP else entry.grant.tcp_ports
        inside, allowed = space_of(entry.networks), ports_of(granted)
        left: list[tuple[Space, Ports]] = []
        for area, open_ports in rest:
            hit, fit = area.common(inside), open_ports & allowed
            if not hit or not fit:
                left.append((area, open_ports))
                continue
            pieces.append(Piece(entry, hit, fit, transport))
            left += [(one, some) for one, some in ((area.minus(inside), open_ports), (hit, open_ports - allowed)) if one and some]
        rest = left
    return pieces, rest


def reach_of_others(zone: str, authority: Authority) -> tuple[Space, ...]:
    """What each other zone may look at: the networks of its valid grants, less what one of them excludes."""
    book, now = authority.book, authority.now
    zones = {one for entry in book.known.values() if entry.valid(now) for one in entry.grant.zones} - {zone}
    valid = [book.of_zone(one, now) for one in sorted(zones)]
    return tuple(
        space(span for entry in some for span in space_of(entry.networks).spans).minus(
            space(span for entry in some for span in space_of(entry.exclusions).spans)
        )
        for some in valid
    )


def by_zones(piece: Piece, others: Iterable[Space]) -> list[Piece]:
    """The piece divided by how many zones may look at its addresses."""
    parts = [piece]
    for reach in others:
        shared = [replace(one, where=one.where.common(reach), zones=one.zones + 1) for one in parts]
        parts = [one for one in (*(replace(one, where=one.where.minus(reach)) for one in parts), *shared) if one.where]
    return parts


@functools.lru_cache(maxsize=256)
def ports_of(spans: tuple[PortRange, ...]) -> Ports:
    """The ports of a grant as a set; remembered."""
    return frozenset(expand(spans))


@dataclass(frozen=True, slots=True)
class Shortfall:
    """What keeps addresses from being planned: exclusions, no network that holds them, no grant for these ports."""

    holes: Space
    granted: Space
    lacking: tuple[Lacking, ...]


def capped(refused: Sequence[Refusal]) -> tuple[Refusal, ...]:
    """At most `MOST_REFUSALS` of them, the last saying how many more there were: a record must fit through Kafka."""
    if len(refused) <= MOST_REFUSALS:
        return tuple(refused)
    more = len(refused) - MOST_REFUSALS + 1
    return (*refused[: MOST_REFUSALS - 1], Refusal(target=f"… and {more} more", reason="refused too; the list is cut here"))


def _read(
    targets: Iterable[str], resolved: Resolved, limits: Limits, refused: list[Refusal]
) -> tuple[list[tuple[str, Space]], dict[str, tuple[str, ...]]]:
    """The targets as sets of addresses, and the names that each address stands for; refusals are appended to `refused`."""
    wanted: list[tuple[str, Space]] = []
    names: dict[str, tuple[str, ...]] = {}
    total = 0
    for text in targets:
        try:
            parsed = parse_target(text)
            spans = [span_of(one) for one in resolved.get(parsed.text, ())] if isinstance(parsed, HostName) else [parsed]
        except ValueError as error:
            refused.append(Refusal(target=show(text), reason=str(error)))
            continue
        one = space(spans)
        reason = next(filter(None, (too_many(span, limits.max_addresses) for span in spans)), None)
        if not spans:
            reason = "the name does not resolve"
        elif reason is None and total + one.size > limits.max_addresses:
            reason = f"names {one.size} addresses; with it the request would name more than {limits.max_addresses}: push it by itself"
        if reason:
            refused.append(Refusal(target=show(text), reason=reason))
            continue
        total += one.size
        wanted.append((show(text), one))
        if isinstance(parsed, HostName):
            for address in (text_of(span.version, span.first) for span in spans):
                names[address] = (*(name for name in names.get(address, ()) if name != parsed.text), parsed.text)
    return wanted, names


def _reasons(text: str, target: Space, short: Shortfall, request: TargetRequest, authority: Authority) -> Iterator[Refusal]:
    """Why a target, or which part of it, is not planned. A partly excluded target is no refusal: the exclusions are counted."""
    left = target.minus(short.holes)
    if not left:
        yield Refusal(target=text, reason="it is excluded by a grant of the zone")
        return
    outside = left.minus(short.granted)
    if outside:
        yield Refusal(target=text, reason=_partly(outside, target) + _why_outside(outside, request, authority))
    for where, ports, transport in short.lacking:
        part = left.common(where)
        if part:
            shown = "no default port" if request.ports is None else f"{transport.value}/{show(show_ports(ranges(ports)))}"
            verb = "is" if request.ports is None or len(ports) == 1 else "are"
            whose = f"grant {request.grant_id}" if request.grant_id else "the grants that cover it"
            not_ = "" if request.ports is None else "not "
            yield Refusal(target=text, reason=_partly(part, target) + f"{shown} {verb} {not_}among the ports of {whose}")


def _partly(part: Space, target: Space) -> str:
    return "" if part.size == target.size else f"{part.size} of its {target.size} addresses, e.g. {part.example}: "


def _why_outside(outside: Space, request: TargetRequest, authority: Authority) -> str:
    book, zone = authority.book, request.zone
    if request.grant_id is not None:
        entry = book.known.get(request.grant_id)
        if entry is None:
            reason = authority.disbelieved.get(request.grant_id)
            name = show(request.grant_id)
            return f"grant {name} is not believed: {reason}" if reason else f"no trusted grant has the id {name}"
        return standing(entry, zone, authority.now) or f"it is in no network of grant {request.grant_id}"
    for _, entry in sorted(book.known.items()):
        problem = standing(entry, zone, authority.now) if zone in entry.grant.zones and outside.common(space_of(entry.networks)) else None
        if problem:
            return problem
    doubts = [f"; grant {show(name)} is not believed: {reason}" for name, reason in sorted(authority.disbelieved.items())][:1]
    return f"it is in no network of any grant of zone {zone}" + "".join(doubts)
