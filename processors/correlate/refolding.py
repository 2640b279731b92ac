"""What a set of rules would have raised over a log: the correlator's own step, run again in memory over what the topics retain. Pure.

Assets do not depend on each other but through `intel` and `inventory`, so each is folded on a state of its own. What stood when the log
begins is told first: as the asset has it where the log never speaks of a service, else as the first change says that it was before.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime

from infra.core.errors import Poison
from infra.core.ports import Context, FixedTables, KeysOf, MemoryState, Record
from processors.correlate.contract import TABLES, Rule
from processors.correlate.correlating import Correlator
from processors.correlate.tables import Tables
from schemas.events.assets import AssetChange, AssetState, ChangeKind, ServiceState, ServiceStatus
from schemas.events.base import Event, Transport
from schemas.events.findings import Exposure, ExposureEvent
from schemas.events.observations import ServiceObservation
from schemas.events.operations import Tick
from schemas.ids import content_id

Key = tuple[Transport, int]
TURNS = (ChangeKind.SERVICE_OPENED, ChangeKind.SERVICE_CLOSED, ChangeKind.SERVICE_FLAPPING)
"""After any of these it is known whether a service flaps."""


@dataclass(slots=True)
class Raised:
    """A finding that the rules raised: its worst base risk last known, how many places it was at, and whether it stands at the end."""

    finding_id: str
    rule: str
    title: str
    base_risk: float
    places: int
    stands: bool


@dataclass(slots=True)
class _Finding:
    """A finding in the making: what stands where, the last word of all that ever stood, and the base risk when something last did."""

    last: Exposure
    standing: dict[str, Exposure] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)


class Refold:
    """Runs rules over assets, one after the other. `until` is the moment up to which time passes; `weights`: what the rules look up."""

    def __init__(
        self, rules: tuple[Rule, ...], tables: Mapping[str, Mapping[str, Event]], until: datetime, weights: Tables = TABLES
    ) -> None:
        self._step, self._tables, self._until = Correlator(rules, weights), Unchanging(tables), until
        self._findings: dict[str, _Finding] = {}
        self.failed: dict[str, int] = {}

    def asset(self, asset: AssetState | None, changes: Iterable[AssetChange]) -> None:
        """Fold one asset: its state at the end of the log, and its changes in their order."""
        context = Context(0, 1, MemoryState(), self._tables)
        known = list(changes)
        for change in (*stood(asset, known), *known):
            self._handle(Record("changes", 0, 0, change.observed_at, "", change), context)
        self._handle(Record("ticks", 0, 0, self._until, "", Tick(partition=0, minute=self._until)), context)

    def raised(self) -> dict[str, Raised]:
        """What was raised, by finding id."""
        return {key: _raised(key, one) for key, one in self._findings.items()}

    def _handle(self, record: Record, context: Context) -> None:
        """A rule that fails at a service fails there only, as in the pipeline, and is counted."""
        try:
            for emit in self._step.handle(record, context):
                if isinstance(emit.event, Exposure):
                    self._take(emit.event)
        except Poison as error:
            self.failed[error.reason] = self.failed.get(error.reason, 0) + 1

    def _take(self, exposure: Exposure) -> None:
        finding = self._findings.setdefault(exposure.finding_id, _Finding(exposure))
        if exposure.event is ExposureEvent.RESOLVED:
            finding.standing.pop(exposure.exposure_id, None)
            return
        finding.last = exposure
        finding.seen.add(exposure.exposure_id)
        finding.standing[exposure.exposure_id] = exposure


def _raised(key: str, finding: _Finding) -> Raised:
    worst = max(finding.standing.values(), key=lambda one: (one.base_risk, one.exposure_id), default=finding.last)
    return Raised(key, worst.rule, worst.title, worst.base_risk, len(finding.seen), bool(finding.standing))


def stood(asset: AssetState | None, changes: list[AssetChange]) -> list[AssetChange]:
    """What must be told so that the log's first change meets what it met then: the host is up, and these services are open."""
    if asset is None and not changes:
        return []
    spoken: dict[Key, AssetChange] = {}
    for change in changes:
        if change.port:
            spoken.setdefault((change.transport, change.port), change)
    services = {(one.transport, one.port): one for one in asset.services} if asset else {}
    begin = min([*([asset.first_seen] if asset else []), *(one.observed_at for one in changes)])
    moved = {(one.transport, one.port) for one in changes if one.kind in TURNS}
    found = [_host_up(asset, changes, begin)]
    found += [_before(first, begin) for first in spoken.values() if first.before is not None]
    if asset is not None:
        known = [(key, one) for key, one in services.items() if one.seen is not None]
        found += [_as_is(asset, one, begin) for key, one in known if key not in spoken and one.status is not ServiceStatus.CLOSED]
        found += [_as_is(asset, one, begin, ChangeKind.SERVICE_FLAPPING) for key, one in known if one.flapping and key not in moved]
    return [one.model_copy(update={"revision": 0}) for one in found]


def _host_up(asset: AssetState | None, changes: list[AssetChange], begin: datetime) -> AssetChange:
    if asset is None:
        return changes[0].model_copy(update={"kind": ChangeKind.HOST_UP, "port": 0, "before": None, "after": None, "observed_at": begin})
    return _told(asset, ChangeKind.HOST_UP, 0, Transport.TCP, None, begin, (), False)


def _as_is(asset: AssetState, one: ServiceState, begin: datetime, kind: ChangeKind = ChangeKind.SERVICE_OPENED) -> AssetChange:
    """The service as the asset has it. It opened before the log begins, longer ago than anything counts as new."""
    evidence = (one.unit_id,) if one.unit_id else ()
    return _told(asset, kind, one.port, one.transport, one.seen, begin, evidence, one.baseline)


def _before(first: AssetChange, begin: datetime) -> AssetChange:
    """The service as the first change of the log says that it was."""
    words = {"kind": ChangeKind.SERVICE_OPENED, "after": first.before, "before": None, "observed_at": begin}
    return first.model_copy(update=words)


def _told(
    asset: AssetState,
    kind: ChangeKind,
    port: int,
    transport: Transport,
    seen: ServiceObservation | None,
    at: datetime,
    evidence: tuple[str, ...],
    baseline: bool,
) -> AssetChange:
    return AssetChange(
        change_id=content_id("stood", asset.zone, asset.address, transport.value, port),
        kind=kind,
        zone=asset.zone,
        address=asset.address,
        subnet=asset.subnet,
        revision=0,
        port=port,
        transport=transport,
        after=seen,
        names=asset.names,
        summary="it stood when the log begins",
        evidence_ids=evidence,
        observed_at=at,
        baseline=baseline,
    )


class Unchanging:
    """Global tables that do not change: an index of one is made once."""

    def __init__(self, tables: Mapping[str, Mapping[str, Event]]) -> None:
        self._tables, self._indexes = FixedTables(tables), dict[tuple[str, KeysOf], Mapping[str, Set[str]]]()

    def table(self, topic: str) -> Mapping[str, Event]:
        """The whole table."""
        return self._tables.table(topic)

    def index(self, topic: str, keys_of: KeysOf) -> Mapping[str, Set[str]]:
        """Keys of the table's records by what `keys_of` makes of each."""
        if (topic, keys_of) not in self._indexes:
            self._indexes[topic, keys_of] = self._tables.index(topic, keys_of)
        return self._indexes[topic, keys_of]
