"""The planner role: reads `targets` and the table `grants`, writes `work.<zone>` and `runs`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable, Mapping

import structlog

from infra.core.errors import BadInput, Poison
from infra.core.ports import Context, Emit, Record, StepPlan
from infra.core.settings import Settings
from infra.core.trust import load_signers, signers_stamp
from infra.kafka.loop import run_step
from processors.plan.planning import Authority, Limits, Resolved, capped, names_in, objection, plan, refuse_all
from processors.plan.resolving import Resolver
from processors.plan.units import run_id_of, too_much, units
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.grants import Grant
from schemas.events.targets import Run, TargetRequest
from schemas.ids import subnet_key
from schemas.scope import GrantBook
from schemas.signing import TrustedSigner
from schemas.topics import work_topic

log = structlog.get_logger()

PLAN = StepPlan(role="planner", inputs=("targets",), global_tables=("grants",))
Resolve = Callable[[str, Collection[str]], Resolved]


class Planner:
    """One request in, its units and exactly one Run out; also when everything is refused.

    `trusted` gives the signers that count now, `resolve` the addresses of a run's names, those left out that have none.
    Grants are checked at the request's append time; each needs the signatures of `required` signers.
    """

    def __init__(self, limits: Limits, trusted: Callable[[], tuple[TrustedSigner, ...]], resolve: Resolve, required: int = 1) -> None:
        self._limits, self._trusted, self._resolve = limits, trusted, resolve
        self._book = GrantBook(trusted(), required=required)
        self._seen: dict[str, Event] = {}
        self._disbelieved: dict[str, str] = {}

    def handle(self, record: Record, context: Context) -> Iterable[Emit]:
        """The units of one request, then its run. Raises Poison for anything but a request."""
        request = record.event
        if not isinstance(request, TargetRequest):
            raise Poison("a record of targets must hold a TargetRequest")
        self._learn(context.tables.table("grants"))
        return self._plan(request, record)

    def _plan(self, request: TargetRequest, record: Record) -> Iterable[Emit]:
        now, limits = record.recorded_at, self._limits
        names = [] if objection(request, limits, now) else names_in(request)
        resolved = self._resolve(run_id_of(request), names) if names else {}
        found = plan(request, resolved, Authority(self._book, self._disbelieved, now), limits)
        excess = too_much(found, limits)
        found = refuse_all(request, excess) if excess else found
        count = 0
        for unit in units(request, found, now, limits):
            count += 1
            key = subnet_key(unit.zone, unit.subnet)
            yield Emit(work_topic(unit.zone), key, unit, route=key)
        run = Run(
            run_id=run_id_of(request),
            request_id=request.request_id,
            campaign_id=request.campaign_id,
            zone=request.zone,
            cause=request.cause,
            units=count,
            addresses=found.addresses,
            ports=found.ports,
            excluded=found.excluded,
            refused=capped(found.refused),
            started_at=now,
        )
        yield Emit("runs", run.run_id, run, route=run.run_id)

    def _learn(self, table: Mapping[str, Event]) -> None:
        """Fold what is new in the table into the book, which never goes back to a lower revision and forgets nothing."""
        signers = self._trusted()
        if signers != self._book.signers:
            known = {f"known|{name}": entry.grant for name, entry in self._book.known.items()}
            self._book = GrantBook(signers, self._book.floors, required=self._book.required)
            self._seen, self._disbelieved = {}, {}
            self._learn(known)
        for key, grant in list(table.items()):
            if self._seen.get(key) is grant or not isinstance(grant, Grant):
                continue
            self._seen[key] = grant
            reason = self._book.learn(grant)
            if reason:
                self._disbelieved[grant.grant_id] = reason
                log.warning("grant_not_believed", grant_id=grant.grant_id, revision=grant.revision, reason=reason)
            else:
                self._disbelieved.pop(grant.grant_id, None)


class Trust:
    """The trusted signers, read again when their file changes; a file that can't be used changes nothing but says so."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stamp = signers_stamp(settings)
        self._signers = load_signers(settings)

    def __call__(self) -> tuple[TrustedSigner, ...]:
        """The signers that count now."""
        stamp = signers_stamp(self._settings)
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._signers = load_signers(self._settings)
            except BadInput as error:
                log.error("signers_file_unusable", reason=str(error))
        return self._signers


def make_step(settings: Settings, codec: Codec) -> Planner:
    """The planner as the settings want it. Raises BadInput for default ports or resolvers that are none."""
    del codec
    try:
        limits = Limits.of(settings.zones, settings.planner, settings.scanner)
        resolver = Resolver(settings.scope.resolvers)
    except ValueError as error:
        raise BadInput(f"planner.default_ports or scope.resolvers is wrong: {error}", "Mend it in the settings.") from None
    return Planner(limits, Trust(settings), resolver.resolve, settings.scope.signers_required)


def run(settings: Settings, stop: threading.Event, ready: Callable[[], None]) -> None:
    """Plan requests until `stop` is set."""
    run_step(settings, PLAN, lambda codec: make_step(settings, codec), stop, ready)
