"""The correlator's step: changes of assets, records of `inventory` and `intel`, and ticks in; exposures out.

Each service is kept as last told, with the exposures that stand for it. After whatever concerns it, the rules judge it again, and
only the differences are told. What changes by itself (a certificate expires, a service is no longer new) stands in an index by its
moment; a tick reads only what is due. What was due before a record is judged first, at the moment it was due, so that it does not
matter whether a tick or a change comes first.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import chain

import structlog

from infra.core.errors import Poison
from infra.core.ports import Context, Emit, Record, State
from processors.correlate.baseline import marked
from processors.correlate.catalogue import BUILT_IN
from processors.correlate.context_tables import expected_and_gone, inventory_of, places_in
from processors.correlate.contract import TABLES, Rule, ServiceFacts
from processors.correlate.intel_sieve import IntelSieve
from processors.correlate.judging import content, edges, judge
from processors.correlate.memory import (
    HostMemory,
    PlaceMemory,
    due_key,
    due_places,
    load_host,
    load_place,
    place_key,
    places_of,
    save_host,
    save_place,
)
from processors.correlate.rules.placement import VANISHED
from processors.correlate.rules.surface import SUSPECTED_IMPACT
from processors.correlate.shown import concerned, entries_of, index_place, note
from processors.correlate.tables import Tables
from processors.match.evidence import seen_in
from processors.match.matcher import Matcher, telling
from processors.match.matching import Match
from schemas.events.assets import AssetChange, ChangeKind
from schemas.events.base import Event
from schemas.events.findings import Exposure, ExposureEvent
from schemas.events.observations import ServiceObservation
from schemas.events.operations import Tick

log = structlog.get_logger()
NEW_FOR = timedelta(days=7)
IMPACT_FOR = timedelta(days=7)
NEW_AFTER = timedelta(seconds=30)
"""A service counts as new if its host had been known so long: the first look at a host opens many."""


class Correlator:
    """The step of the role `correlator`."""

    def __init__(self, rules: tuple[Rule, ...] = BUILT_IN, tables: Tables = TABLES, intel_header: bytes | None = None) -> None:
        """`intel_header`: how values of today's schema begin (`Codec.header`); without it, every record of `intel` is looked at whole."""
        self._rules, self._tables, self._matcher = rules, tables, Matcher()
        self._intel = IntelSieve(intel_header)

    def concerns(self, record: Record, context: Context) -> bool:
        """Whether a record of a global table could change anything in this partition: of `intel`, few do."""
        return record.topic != "intel" or self._intel.concerns(record, context)

    def handle(self, record: Record, context: Context) -> Iterable[Emit]:
        """The exposures that opened, changed or were resolved by one record."""
        event = record.event
        if record.topic == "inventory":
            known = list(places_in(context.state, record.key, event))
            return [*self._again(known, record.recorded_at, context), *self._missed(event, record.recorded_at, context)]
        if record.topic == "intel":
            return self._again(concerned(context.state, record, self._matcher), record.recorded_at, context)
        if isinstance(event, Tick):
            return self._tick(event.minute, context)
        if isinstance(event, AssetChange):
            return self._change(event, context)
        raise Poison(f"the correlator can do nothing with {type(event).__name__} from {record.topic}")

    def _tick(self, minute: datetime, context: Context) -> Iterator[Emit]:
        for entry, key in list(due_places(context.state, minute)):
            context.state.delete(entry)
            place = load_place(context.state, key)
            if place is not None:
                yield from self._guarded(place, self._settle(place, minute, context), context)

    def _again(self, keys: Iterable[str], moment: datetime, context: Context) -> Iterator[Emit]:
        """Judge these places anew because a global table changed."""
        for key in keys:
            place = load_place(context.state, key)
            if place is not None and (place.seen is not None or place.standing):
                told = chain(self._settle(place, moment, context), self._judge(place, moment, context))
                yield from self._guarded(place, told, context)

    def _missed(self, event: Event | None, moment: datetime, context: Context) -> Iterator[Emit]:
        """Judge the services that closed before a record of `inventory` said that they should be there."""
        for zone, address, transport, port in list(expected_and_gone(context.state, event)):
            host = load_host(context.state, zone, address)
            if host is not None:
                place = host.place(zone, address, transport, port, moment)
                yield from self._guarded(place, self._judge(place, moment, context), context)

    def _guarded(self, place: PlaceMemory, told: Iterable[Emit], context: Context) -> list[Emit]:
        """What is told of one place among many: where a rule fails, that place stays as it was and the others go on."""
        try:
            outputs = list(told)
        except Poison as error:
            log.error("place_not_judged", place=place.key, reason=error.reason)
            return []
        keep(place, context.state)
        return outputs

    def _change(self, change: AssetChange, context: Context) -> Iterator[Emit]:
        host = load_host(context.state, change.zone, change.address) or HostMemory(first_seen=change.observed_at)
        if change.revision < host.revision:
            return
        renamed = bool(change.names) and change.names != host.names
        host.names, host.revision = change.names or host.names, change.revision
        save_host(context.state, change.zone, change.address, host)
        if change.port:
            key = place_key(change.zone, change.address, change.transport, change.port)
            place = load_place(context.state, key) or host.place(
                change.zone, change.address, change.transport, change.port, change.observed_at
            )
            yield from self._apply(place, change, host, context)
        if change.kind is ChangeKind.HOST_DOWN or renamed:
            for key, _ in list(context.state.scan(places_of(change.zone, change.address))):
                other = load_place(context.state, key)
                if other is not None and other.seen is not None:
                    yield from self._apply(other, change, host, context)

    def _apply(self, place: PlaceMemory, change: AssetChange, host: HostMemory, context: Context) -> Iterator[Emit]:
        """One change, applied to one place."""
        yield from self._settle(place, change.observed_at, context)
        if change.kind is ChangeKind.HOST_DOWN:
            place.seen, place.flapping = None, False
        elif (change.port, change.transport) == (place.port, place.transport):
            take_in(place, change, host)
        yield from self._judge(place, change.observed_at, context)
        keep(place, context.state)

    def _settle(self, place: PlaceMemory, moment: datetime, context: Context) -> Iterator[Emit]:
        """Judge a place at each moment that was due before this one."""
        while place.due is not None and place.due <= moment:
            yield from self._judge(place, place.due, context)

    def _judge(self, place: PlaceMemory, moment: datetime, context: Context) -> Iterator[Emit]:
        """Tell what changed between the exposures that stand and those that should, as of a moment; then set when to look again."""
        place.now = max(place.now, moment)
        if place.seen is None or (place.new_until is not None and place.new_until <= place.now):
            place.new_until = None
        if place.impact_until is not None and place.impact_until <= place.now:
            place.impact_until = None
        host = load_host(context.state, place.zone, place.address)
        facts = self._facts(place, host.names if host else (), context)
        should: dict[str, Exposure] = {}
        if facts is not None:
            should = judge(self._rules_for(place), facts, facts.names, place.evidence_ids)
            should = marked(should, self._rules, place, facts, context.tables.table("intel"))
        told = differences(place, should)
        place.standing = {key: one for key, one in place.standing.items() if key in should}
        for exposure in told:
            if exposure.event is not ExposureEvent.RESOLVED:
                place.standing[exposure.exposure_id] = exposure
            yield Emit("exposures", exposure.finding_id, exposure, route=exposure.finding_id)
        self._look_again(place, facts, context)

    def _rules_for(self, place: PlaceMemory) -> tuple[Rule, ...]:
        """All rules; for a service that is gone, only those on how it went and that it should be there."""
        return self._rules if place.seen is not None else (SUSPECTED_IMPACT, VANISHED)

    def _facts(self, place: PlaceMemory, names: tuple[str, ...], context: Context) -> ServiceFacts | None:
        if place.seen is None and place.impact_until is None and not place.known:
            return None
        service = place.seen or ServiceObservation(port=place.port, transport=place.transport)
        return ServiceFacts(
            zone=place.zone,
            address=place.address,
            service=service,
            now=place.now,
            flapping=place.flapping,
            new=place.new_until is not None,
            impact=place.impact_until is not None,
            inventory=inventory_of(context.tables.table("inventory"), place.zone, place.address),
            matches=self._matches(service, context),
            names=names,
            gone=place.seen is None,
            tables=self._tables,
        )

    def _matches(self, service: ServiceObservation, context: Context) -> tuple[Match, ...]:
        """The vulnerabilities that a service has or may have by its version."""
        seen = seen_in(service)
        if not any(version for _, version in seen.products):
            return ()
        index = context.tables.index("intel", self._intel.keys_of)
        found = telling(self._matcher.matches(seen, index, context.tables.table("intel")))
        note(context.state, found, entries_of(service))
        self._intel.note(context, matched=(one.cve for one in found))
        return found

    def _look_again(self, place: PlaceMemory, facts: ServiceFacts | None, context: Context) -> None:
        """Keep the indexes: when the place is due, and which products it shows."""
        moments = [place.new_until, place.impact_until, *(edges(self._rules_for(place), facts) if facts else ())]
        due = min((one for one in moments if one is not None and one > place.now), default=None)
        if due != place.due:
            if place.due is not None:
                context.state.delete(due_key(place.due, place.key))
            if due is not None:
                context.state.put(due_key(due, place.key), b"1")
            place.due = due
        place.products = index_place(context.state, place.key, place.products, facts.service if facts else None)
        self._intel.note(context, place.products)


def keep(place: PlaceMemory, state: State) -> None:
    """Keep a place's memory; once it is over, only what the host's must remember of it."""
    if not place.over:
        save_place(state, place)
        return
    host = load_host(state, place.zone, place.address)
    if host is not None:
        host.forget(place)
        save_host(state, place.zone, place.address, host)
    state.delete(place.key)


def take_in(place: PlaceMemory, change: AssetChange, host: HostMemory) -> None:
    """What a change says of the service itself. One that flaps is kept as it was until the differ tells what it settled on."""
    place.evidence_ids = change.evidence_ids or place.evidence_ids
    if change.kind is ChangeKind.SUSPECTED_IMPACT:
        place.impact_until = change.observed_at + IMPACT_FOR
        return
    if change.kind is ChangeKind.SERVICE_FLAPPING:
        place.flapping = True
        place.seen = change.after or place.seen or change.before
        return
    if change.kind in (ChangeKind.SERVICE_OPENED, ChangeKind.SERVICE_CLOSED):
        place.flapping = False
    note_first(place, change)
    if change.after is not None:
        if not place.known and change.observed_at - host.first_seen > NEW_AFTER:
            place.new_until = change.observed_at + NEW_FOR
        place.known = True
    place.seen = change.after


def note_first(place: PlaceMemory, change: AssetChange) -> None:
    """Keep what the first look at a port saw, as long as the service has been open since."""
    if change.kind is ChangeKind.SERVICE_OPENED:
        place.first_at, place.first = (change.observed_at if change.baseline else None), None
    elif change.after is None:
        place.first_at = place.first = None
    elif place.first_at is not None and place.first is None and place.seen != change.after:
        place.first = place.seen


def differences(place: PlaceMemory, should: dict[str, Exposure]) -> list[Exposure]:
    """What is to be told so that the exposures that stand become those that should, in a fixed order and numbered."""
    told = [
        place.standing[key].model_copy(update={"event": ExposureEvent.RESOLVED}) for key in sorted(place.standing.keys() - should.keys())
    ]
    for key in sorted(should):
        before = place.standing.get(key)
        if before is None:
            told.append(should[key])
        elif content(before) != content(should[key]):
            told.append(should[key].model_copy(update={"event": ExposureEvent.CHANGED}))
    if told:
        place.revision += 1
    return [one.model_copy(update={"revision": place.revision, "observed_at": place.now}) for one in told]
