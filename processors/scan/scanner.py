"""The scanner's loop: takes units from Kafka, has many in work at once, publishes each in the order of its partition.

This thread alone talks to the consumer group and the transactional producer, and turns at least twice a second whatever the units
do: those run on the crew's thread. A third thread, the authority, follows grants and orders. They meet in plain attributes that one
of them writes.
"""

from __future__ import annotations

import asyncio
import ipaddress
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.core.errors import DriftlineError, Poison
from infra.core.ports import Ready
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from infra.kafka.client import consumer_config, prefixed, unreachable, value_of
from infra.kafka.deadletters import Fuse, FuseBlown
from infra.kafka.registry import codec_for
from processors.scan.admission import OVER_TIME, UNFINISHED, ScannerGate, UnitGate
from processors.scan.authority import Authority, uptime
from processors.scan.crew import Crew
from processors.scan.gate import Gate, Halted
from processors.scan.heartbeat import Heartbeat, Identity, Progress
from processors.scan.intake import Backlog, Entry, Stage
from processors.scan.partial import Attempt, Outcome, Report, not_probed, rest_of
from processors.scan.publish import UnitPublisher
from schemas.codec import Codec, UndecodableError
from schemas.events.operations import AgentState
from schemas.events.targets import WorkUnit
from schemas.scope import contains
from schemas.topics import work_topic

log = structlog.get_logger()
Runner = Callable[[WorkUnit, Gate, int], Coroutine[Any, Any, Report]]
"""Runs one unit; the number is that of the attempt in this process, from 1."""

GRANT_PATIENCE = 5.0  # seconds that a unit waits for a grant that the planner saw before this scanner did
HALT_PATIENCE, WRAP_UP_PATIENCE, HOPELESS = 1.0, 10.0, 30.0  # seconds from a halt to the cancellation, and to giving up on the process
MOST_AT_ONCE = 25  # records taken, and units published, between two polls


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)


def run_scanner(settings: Settings, identity: Identity, run_unit: Runner, stop: threading.Event, ready: Ready) -> None:
    """Scan with this way to run a unit until `stop` is set, then drain. Raises DriftlineError for what a person must mend."""
    scanner = Scanner(settings, identity, run_unit, codec_for(settings))
    try:
        scanner.run(stop, ready)
    except KafkaException as error:
        raise unreachable(settings, error) from error
    finally:
        scanner.close()


@dataclass(slots=True, eq=False)
class Job:
    """A unit in work. `task` is set by the crew's thread once it began; `halted_at` is uptime."""

    gate: UnitGate
    future: Future[Report]
    task: asyncio.Task[Any] | None = None
    halted_at: float | None = None


class Scanner:
    """One scanner process's loop, from start to drain."""

    def __init__(self, settings: Settings, identity: Identity, run_unit: Runner, codec: Codec) -> None:
        self._settings, self._identity, self._run_unit, self._codec = settings, identity, run_unit, codec
        self._topic = prefixed(settings, work_topic(settings.scanner.zone))
        self._meter, self._fuse = Meter("scanner"), Fuse()
        self._authority = Authority(settings, identity.agent_id, codec)
        self._gate = ScannerGate(settings, self._authority, uptime, utc_now)
        self._publisher = UnitPublisher(settings, codec, self._meter)
        self._heartbeat = Heartbeat(settings, identity, codec, utc_now, uptime)
        group = f"scanner.{settings.scanner.zone}"
        small = {"heartbeat.interval.ms": 1000, "queued.min.messages": 100, "queued.max.messages.kbytes": 8192}
        self._consumer = Consumer(consumer_config(settings, group, **small))
        self._crew = Crew()
        self._backlog = Backlog(room=4 * settings.scanner.parallel_units)
        self._jobs: dict[Entry, Job] = {}
        self._paused: set[int] = set()
        self._subscribed = False
        self._done = 0
        self._asked_at = self._told_at = float("-inf")

    def run(self, stop: threading.Event, ready: Ready) -> None:
        """Work until `stop` is set. Raises DriftlineError or KafkaException if it can't go on."""
        self._authority.start(stop)
        self._meter.ready()
        ready()
        while not stop.is_set():
            self._authority.raise_failure()
            self._follow_orders()
            self._take()
            self._prove_contact()
            self._end_halted()
            self._settle()
            self._publish()
            self._start()
            self._control_flow()
            self._tell()
        self._gate.stopping = True
        self._crew.close()
        self._settle()
        self._publish()

    def close(self) -> None:
        """Stop sending at once, leave the group so that others take over, say goodbye."""
        self._gate.stopping = True
        self._crew.close()
        self._consumer.close()
        self._authority.close()
        self._heartbeat.close(self._progress(AgentState.STOPPED))

    def _follow_orders(self) -> None:
        """Drained: leave the partitions to others. Resumed: come back."""
        draining = self._authority.orders.draining
        if not draining and not self._subscribed:
            self._consumer.subscribe([self._topic], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
            self._subscribed = True
        if draining and self._subscribed and not self._jobs and not any(self._backlog.ready()):
            self._consumer.unsubscribe()
            self._forget_partitions(list(self._backlog.queues))
            self._subscribed = False

    def _assigned(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._backlog.assign(one.partition for one in partitions)
        self._gate.owned = max(1, len(self._backlog.queues))
        self._gate.contact_at = uptime()
        log.info("partitions_assigned", partitions=sorted(self._backlog.queues))

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget_partitions([one.partition for one in partitions])
        log.info("partitions_revoked", partitions=[one.partition for one in partitions])

    def _forget_partitions(self, numbers: list[int]) -> None:
        """What is in work for them stops at its next packet; nothing of it is published: a successor does it again."""
        for entry in self._backlog.drop(numbers):
            if entry in self._jobs:
                self._jobs[entry].gate.lost = True
        self._paused -= set(numbers)
        self._gate.owned = max(1, len(self._backlog.queues))

    def _take(self) -> None:
        patience = 0.02 if self._jobs else 0.1 if any(self._backlog.queues.values()) else 0.5
        message = self._consumer.poll(patience)
        self._meter.beat()
        for _ in range(MOST_AT_ONCE):
            if message is None:
                return
            self._accept(message)
            message = self._consumer.poll(0)
        if message is not None:
            self._accept(message)

    def _accept(self, message: Message) -> None:
        error, partition = message.error(), message.partition() or 0
        if error is not None:
            if error.fatal() or error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED):
                raise KafkaException(error)
            log.warning("consumer_error", reason=error.str())
            return
        if partition not in self._backlog.queues:
            return
        self._meter.received()
        entry = Entry(partition, message.offset() or 0, message, None, uptime())
        try:
            entry.unit = self._unit_in(message)
        except (UndecodableError, Poison) as reason:
            self._set_aside(entry, reason, ())
        self._backlog.add(entry)

    def _unit_in(self, message: Message) -> WorkUnit:
        value = value_of(message)
        if value is None:
            raise Poison("a tombstone is no work")
        unit = self._codec.decode(self._bare_topic, value)
        if not isinstance(unit, WorkUnit):
            raise Poison("not a unit of work")
        check_unit(unit, self._settings.scanner.zone)
        return unit

    @property
    def _bare_topic(self) -> str:
        return work_topic(self._settings.scanner.zone)

    def _set_aside(self, entry: Entry, error: Exception, sweeps: tuple[Any, ...]) -> None:
        """To the DLQ with it; a unit that was understood is also told to be over, so that its run can end."""
        entry.finish(Outcome(sweeps=sweeps, error=error))
        self._meter.discarded("decode" if isinstance(error, UndecodableError) else "handle")
        self._meter.error(str(error))
        log.warning("unit_set_aside", partition=entry.partition, offset=entry.offset, error=type(error).__name__, reason=str(error))

    def _prove_contact(self) -> None:
        """Once a second, an answer of the group's coordinator. Without partitions there is nothing to lose, and nothing to send."""
        asked = uptime()
        if not self._backlog.queues:
            self._gate.contact_at = asked
        elif asked - self._asked_at >= 1.0:
            self._asked_at = asked
            try:
                self._consumer.committed([TopicPartition(self._topic, next(iter(self._backlog.queues)))], timeout=1.0)
            except KafkaException as error:
                log.warning("coordinator_does_not_answer", reason=str(error))
            else:
                self._gate.contact_at = asked

    def _end_halted(self) -> None:
        """A probe that does not ask its gate in time (a subprocess, say) is cancelled."""
        for job in self._jobs.values():
            reason = job.gate.halt()
            if reason is None:
                continue
            now = uptime()
            job.halted_at = now if job.halted_at is None else job.halted_at
            if now - job.halted_at > HOPELESS:
                raise DriftlineError(f"Unit {job.gate.unit.unit_id} could not be stopped ({reason}).", "The scanner starts anew.")
            if now - job.halted_at > (WRAP_UP_PATIENCE if reason == OVER_TIME else HALT_PATIENCE) and job.task is not None:
                self._crew.cancel(job.task)

    def _settle(self) -> None:
        for entry, job in [(entry, job) for entry, job in self._jobs.items() if job.future.done()]:
            del self._jobs[entry]
            if job.gate.lost:
                continue
            if job.gate.halted in UNFINISHED:
                entry.stage, entry.attempt = Stage.WAITING, entry.attempt + 1
                continue
            self._conclude(entry, job)

    def _conclude(self, entry: Entry, job: Job) -> None:
        unit, gate = job.gate.unit, job.gate
        error = None if job.future.cancelled() else job.future.exception()
        if not job.future.cancelled() and error is None:
            report = job.future.result()
            entry.finish(Outcome(report.sweeps, report.hosts, rest_of(unit, report) if gate.halted == OVER_TIME else ()))
        elif isinstance(error, Exception) and not isinstance(error, Halted):
            log.error("unit_failed", unit=unit.unit_id, exc_info=error)
            self._set_aside(entry, error, self._over(entry, unit, f"failed: {type(error).__name__}", gate.packets))
        else:
            reason = error.reason if isinstance(error, Halted) else gate.halted or "cancelled"
            entry.finish(Outcome(self._over(entry, unit, reason, gate.packets)))
        log.info("unit_done", unit=unit.unit_id, subnet=unit.subnet, packets=gate.packets, halted=gate.halted or "")

    def _over(self, entry: Entry, unit: WorkUnit, reason: str, packets: int = 0) -> tuple[Any, ...]:
        return not_probed(unit, Attempt(self._identity.agent_id, entry.attempt, self._identity.engine, utc_now()), reason, packets)

    def _publish(self) -> None:
        for count, entry in enumerate(self._backlog.ready()):
            if count == MOST_AT_ONCE or not self._publisher.publish(entry, self._consumer):
                return
            self._backlog.forget(entry)
            self._done += 1
            self._fuse.note(bad=entry.outcome is not None and entry.outcome.error is not None)
            if self._fuse.blown():
                raise FuseBlown(
                    "Most units that the scanner read lately were bad; it stopped.",
                    "See 'driftline dlq list', mend the source, start it again.",
                )

    def _start(self) -> None:
        room = self._settings.scanner.parallel_units - len(self._jobs)
        if room <= 0 or self._gate.cut_off() or self._authority.orders.draining or not self._backlog.queues:
            return
        for entry in self._backlog.startable(utc_now(), room, self._may_start):
            unit = entry.unit
            if unit is None:
                continue
            reason = self._refusal(unit)
            if reason is not None:
                entry.finish(Outcome(self._over(entry, unit, reason)))
                self._meter.discarded("scope")
                log.warning("unit_refused", unit=unit.unit_id, reason=reason)
                continue
            entry.stage = Stage.RUNNING
            job = Job(UnitGate(self._gate, unit), Future())
            self._jobs[entry] = job
            job.future = self._crew.start(self._attempt(job, entry.attempt))

    async def _attempt(self, job: Job, number: int) -> Report:
        job.task = asyncio.current_task()
        return await self._run_unit(job.gate.unit, job.gate, number)

    def _may_start(self, entry: Entry) -> bool:
        """Not before the grant that the planner saw is known here too, or clearly does not come."""
        if entry.unit is None:
            return False
        known = self._authority.book.known.get(entry.unit.grant_id)
        seen = known is not None and known.grant.revision >= entry.unit.grant_revision
        return seen or uptime() - entry.taken_at > GRANT_PATIENCE

    def _refusal(self, unit: WorkUnit) -> str | None:
        """Why no packet of the unit could leave now; what is refused for single addresses and ports only is the gate's matter."""
        reason = self._gate.halt(unit)
        if reason is not None:
            return reason
        known = self._authority.book.known[unit.grant_id]
        if known.grant.revision < unit.grant_revision:
            return f"revision {unit.grant_revision} of grant {unit.grant_id} is not known here"
        if not any(contains(known.networks, ipaddress.ip_address(one)) for one in unit.addresses):
            return f"no address of the unit is in a network of grant {unit.grant_id}"
        return None

    def _control_flow(self) -> None:
        """Pause what is full, let flow what has room again; polling goes on in any case."""
        for number in list(self._backlog.queues):
            full = self._backlog.full(number)
            if full and number not in self._paused:
                self._consumer.pause([TopicPartition(self._topic, number)])
                self._paused.add(number)
            elif not full and number in self._paused:
                self._consumer.resume([TopicPartition(self._topic, number)])
                self._paused.discard(number)

    def _tell(self) -> None:
        state = AgentState.WORKING if self._jobs else AgentState.IDLE
        if self._authority.orders.draining:
            state = AgentState.DRAINING if self._jobs or self._subscribed else AgentState.DRAINED
        self._heartbeat.beat(self._progress(state))
        if uptime() - self._told_at >= 1.0:
            self._told_at = uptime()
            self._meter.lag(self._lag())

    def _progress(self, state: AgentState) -> Progress:
        partitions = tuple(sorted(self._backlog.queues))
        return Progress(state, partitions, len(self._jobs), self._done, self._gate.packets, self._gate.refused)

    def _lag(self) -> int:
        lag = sum(len(queue) for queue in self._backlog.queues.values())
        for position in self._consumer.position([TopicPartition(self._topic, number) for number in self._backlog.queues]):
            if position.offset >= 0:
                _, high = self._consumer.get_watermark_offsets(position, cached=True)
                lag += max(0, high - position.offset)
        return lag


def check_unit(unit: WorkUnit, zone: str) -> None:
    """Whether a decoded unit makes sense here. Raises Poison with the reason."""
    if unit.zone != zone:
        raise Poison(f"the unit is for zone {unit.zone}, this is {zone}")
    try:
        subnet = ipaddress.ip_network(unit.subnet)
        stray = next((one for one in unit.addresses if not contains((subnet,), ipaddress.ip_address(one))), None)
    except ValueError as error:
        raise Poison(str(error)) from None
    if stray is not None or not unit.addresses:
        raise Poison(f"{stray} is not in the unit's subnet {unit.subnet}" if stray else "the unit has no addresses")
