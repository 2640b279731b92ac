"""Units in work on the crew: begun, stopped when they must, and turned into what is to be published."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import structlog

from infra.core.errors import DriftlineError
from processors.scan.crew import Crew
from processors.scan.heartbeat import Identity
from processors.scan.intake import Entry, Stage
from processors.scan.partial import Attempt, Outcome, Report, not_probed, rest_of
from processors.scan.scope.admission import OVER_TIME, UNFINISHED, ScannerGate, UnitGate
from processors.scan.scope.gate import Gate, Halted
from processors.scan.witness.witness import Witness
from schemas.events.observations import SweepResult
from schemas.events.targets import WorkUnit

log = structlog.get_logger()
Runner = Callable[[WorkUnit, Gate, int], Coroutine[Any, Any, Report]]
"""Runs one unit; the number is that of the attempt in this process, from 1."""

HALT_PATIENCE, WRAP_UP_PATIENCE, HOPELESS = 1.0, 10.0, 30.0  # seconds from a halt to the cancellation, and to giving up on the process


@dataclass(slots=True, eq=False)
class Job:
    """A unit in work. `task` is set by the crew's thread once it began; `halted_at` is uptime."""

    gate: UnitGate
    future: Future[Report] = field(default_factory=Future)
    task: asyncio.Task[Any] | None = None
    halted_at: float | None = None


class Jobs:
    """All units in work of one scanner."""

    def __init__(
        self, gate: ScannerGate, identity: Identity, run_unit: Runner, now: Callable[[], datetime], witness: Witness | None = None
    ) -> None:
        self._witness = witness
        self._gate, self._identity, self._run_unit, self._now = gate, identity, run_unit, now
        self._crew = Crew()
        self._running: dict[Entry, Job] = {}

    def __len__(self) -> int:
        return len(self._running)

    def begin(self, entry: Entry, unit: WorkUnit) -> None:
        """Put a unit in work."""
        entry.stage = Stage.RUNNING
        trace = self._witness.open(unit, entry.attempt, self._gate.issuer(unit)) if self._witness else None
        job = self._running[entry] = Job(UnitGate(self._gate, unit, trace))
        job.future = self._crew.start(self._attempt(job, entry.attempt))

    def lose(self, entry: Entry) -> None:
        """The entry's partition was taken away: it stops at its next packet, and its result counts for nothing."""
        if entry in self._running:
            self._running[entry].gate.lost = True

    def end_halted(self) -> None:
        """Cancel what did not ask its gate in time (a subprocess, say). Raises DriftlineError if even that does not end it."""
        for job in self._running.values():
            reason = job.gate.halt()
            if reason is None:
                continue
            now = self._gate.uptime()
            job.halted_at = now if job.halted_at is None else job.halted_at
            if now - job.halted_at > HOPELESS:
                raise DriftlineError(f"Unit {job.gate.unit.unit_id} could not be stopped ({reason}).", "The scanner starts anew.")
            if now - job.halted_at > (WRAP_UP_PATIENCE if reason == OVER_TIME else HALT_PATIENCE) and job.task is not None:
                self._crew.cancel(job.task)

    def finished(self) -> Iterator[tuple[Entry, Outcome]]:
        """What has ended, with what is to be published. A unit that was stopped for no reason of its own waits for another attempt."""
        for entry, job in [(entry, job) for entry, job in self._running.items() if job.future.done()]:
            del self._running[entry]
            if job.gate.trace is not None:
                job.gate.trace.end()
            if job.future.cancelled():
                job.gate.halt()  # notes why: it may not have asked since; "stopping" means that it is done again
            if job.gate.lost:
                continue
            if job.gate.halted in UNFINISHED:
                entry.stage, entry.attempt = Stage.WAITING, entry.attempt + 1
                continue
            log.info("unit_settled", unit=job.gate.unit.unit_id, packets=job.gate.packets, halted=job.gate.halted or "")
            yield entry, self._outcome(entry, job)

    def over(self, entry: Entry, unit: WorkUnit, reason: str, packets: int = 0) -> tuple[SweepResult, ...]:
        """The word that this unit ended without probing anything."""
        return not_probed(unit, Attempt(self._identity.agent_id, entry.attempt, self._identity.engine, self._now()), reason, packets)

    def close(self) -> None:
        """Cancel what still runs and end the crew."""
        self._crew.close()

    async def _attempt(self, job: Job, number: int) -> Report:
        job.task = asyncio.current_task()
        return await self._run_unit(job.gate.unit, job.gate, number)

    def _outcome(self, entry: Entry, job: Job) -> Outcome:
        unit, gate = job.gate.unit, job.gate
        try:
            report = job.future.result()
        except Halted as halt:
            return Outcome(self.over(entry, unit, halt.reason, gate.packets))
        except CancelledError:
            return Outcome(self.over(entry, unit, gate.halted or "cancelled", gate.packets))
        except Exception as error:
            log.exception("unit_failed", unit=unit.unit_id)
            return Outcome(self.over(entry, unit, f"failed: {type(error).__name__}", gate.packets), error=error)
        return Outcome(report.sweeps, report.hosts, rest_of(unit, report) if gate.halted == OVER_TIME else ())
