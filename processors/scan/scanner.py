"""The scanner's loop: takes units from Kafka, has many in work at once, publishes each in the order of its partition.

This thread alone talks to the consumer group and the transactional producer, and turns at least twice a second whatever the units
do: those run on the crew's thread. A third thread, the authority, follows grants and orders. They meet in plain attributes that one
of them writes.
"""

from __future__ import annotations

import threading
from itertools import islice

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from infra.core.clock import SteadyClock, uptime
from infra.core.errors import Poison
from infra.core.ports import Ready
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from infra.kafka.client import consumer_config, is_lasting, prefixed, unreachable, value_of
from infra.kafka.deadletters import Fuse, FuseBlown
from infra.kafka.registry import codec_for
from processors.scan.heartbeat import Heartbeat, Identity, Progress
from processors.scan.intake import Backlog, Entry
from processors.scan.jobs import Jobs, Runner
from processors.scan.partial import Outcome
from processors.scan.publish import UnitPublisher
from processors.scan.scope.acceptance import knows_grant, read_unit, uncovered
from processors.scan.scope.admission import UNFINISHED, ScannerGate
from processors.scan.scope.authority import ASK_SECONDS, CALM_SECONDS, Authority
from processors.scan.scope.contact import Contact
from processors.scan.witness.witness import Witness
from schemas.codec import Codec, UndecodableError
from schemas.events.operations import AgentState
from schemas.topics import work_topic

log = structlog.get_logger()
GRANT_PATIENCE = 5.0  # seconds that a unit waits for a grant that the planner saw before this scanner did
MOST_AT_ONCE = 25  # records taken, and units published (in one transaction), between two polls


def run_scanner(
    settings: Settings, identity: Identity, run_unit: Runner, stop: threading.Event, ready: Ready, clock: SteadyClock | None = None
) -> None:
    """Scan with this way to run a unit until `stop` is set, then drain. Raises DriftlineError for what a person must mend."""
    scanner = Scanner(settings, identity, run_unit, codec_for(settings), clock or SteadyClock())
    try:
        scanner.run(stop, ready)
    except KafkaException as error:
        raise unreachable(settings, error) from error
    finally:
        scanner.close()


class Scanner:
    """One scanner process's loop, from start to drain."""

    def __init__(self, settings: Settings, identity: Identity, run_unit: Runner, codec: Codec, clock: SteadyClock) -> None:
        self._settings, self._codec, self._clock = settings, codec, clock
        self._topic = prefixed(settings, work_topic(settings.scanner.zone))
        self._meter, self._fuse = Meter("scanner"), Fuse()
        self._authority = Authority(settings, identity.agent_id, codec)
        self._gate = ScannerGate(settings, self._authority, uptime, clock.now)
        self._contact = Contact(settings.scanner.cut_off_seconds, uptime())
        self._publisher = UnitPublisher(settings, codec, self._meter)
        self._heartbeat = Heartbeat(settings, identity, codec, clock)
        group = f"scanner.{settings.scanner.zone}"
        small = {"heartbeat.interval.ms": 1000, "queued.min.messages": 100, "queued.max.messages.kbytes": 8192, "fetch.wait.max.ms": 1000}
        self._consumer = Consumer(consumer_config(settings, group, **small))
        self._backlog = Backlog(room=4 * settings.scanner.parallel_units)
        self._witness = Witness(settings, identity.agent_id, codec)
        self._jobs = Jobs(self._gate, identity, run_unit, clock.now, self._witness)
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
            self._witness.raise_failure()
            self._follow_orders()
            self._take()
            self._prove_contact()
            self._jobs.end_halted()
            self._settle()
            self._publish()
            self._start()
            self._control_flow()
            self._tell()
        self._gate.stopping = True
        self._jobs.close()
        self._settle()
        self._publish()

    def close(self) -> None:
        """Stop sending at once, leave the group so that others take over, say goodbye."""
        self._gate.stopping = True
        self._jobs.close()
        self._consumer.close()
        self._authority.close()
        self._witness.close()
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

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        consumer.assign(partitions)
        consumer.resume(partitions)  # librdkafka keeps a pause through revoke and assign
        self._backlog.assign(one.partition for one in partitions)
        self._gate.owned = max(1, len(self._backlog.queues))
        self._gate.contact_at = self._contact.member(uptime())
        log.info("partitions_assigned", partitions=sorted(self._backlog.queues))

    def _revoked(self, _: Consumer, partitions: list[TopicPartition]) -> None:
        self._forget_partitions([one.partition for one in partitions])
        log.info("partitions_revoked", partitions=[one.partition for one in partitions])

    def _forget_partitions(self, numbers: list[int]) -> None:
        """What is in work for them stops at its next packet; nothing of it is published: a successor does it again."""
        for entry in self._backlog.drop(numbers):
            self._jobs.lose(entry)
        self._paused -= set(numbers)
        self._gate.owned = max(1, len(self._backlog.queues))

    def _take(self) -> None:
        patience = 0.01 if self._jobs else 0.1 if any(self._backlog.queues.values()) else 0.5
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
            if is_lasting(error):
                raise KafkaException(error)
            log.warning("consumer_error", reason=error.str())
            return
        if partition not in self._backlog.queues:
            return
        self._meter.received()
        entry = Entry(partition, message.offset() or 0, message, None, uptime())
        try:
            entry.unit = read_unit(self._codec, self._settings.scanner.zone, value_of(message), self._clock.now())
        except (UndecodableError, Poison) as reason:
            self._set_aside(entry, reason)
            entry.finish(Outcome(error=reason))
        self._backlog.add(entry)

    def _set_aside(self, entry: Entry, error: Exception) -> None:
        """Tell that this record goes to the DLQ."""
        self._meter.discarded("decode" if isinstance(error, UndecodableError) else "handle")
        self._meter.error(str(error))
        log.warning("unit_set_aside", partition=entry.partition, offset=entry.offset, error=type(error).__name__, reason=str(error))

    def _prove_contact(self) -> None:
        """Again and again, an answer of the group's coordinator. Without partitions there is nothing to lose, and nothing to send."""
        asked = uptime()
        self._authority.calm = not self._jobs
        if not self._backlog.queues:
            self._gate.contact_at = self._contact.member(asked)
        elif asked - self._asked_at >= (ASK_SECONDS if self._jobs else CALM_SECONDS):
            self._asked_at = asked
            try:
                self._consumer.committed([TopicPartition(self._topic, next(iter(self._backlog.queues)))], timeout=1.0)
            except KafkaException as error:
                log.warning("coordinator_does_not_answer", reason=str(error))
            else:
                self._gate.contact_at = self._contact.answered(asked)

    def _settle(self) -> None:
        for entry, outcome in self._jobs.finished():
            if outcome.error is not None:
                self._set_aside(entry, outcome.error)
            entry.finish(outcome)

    def _publish(self) -> None:
        ready = list(islice(self._backlog.ready(), MOST_AT_ONCE))
        published = ready[: self._publisher.publish(ready, self._consumer)] if ready else []
        self._backlog.forget(published)
        self._done += len(published)
        self._fuse.note_all([entry.outcome is not None and entry.outcome.error is not None for entry in published])
        if self._fuse.blown():
            raise FuseBlown(
                "Most units that the scanner read lately were bad; it stopped.",
                "See 'driftline dlq list', mend the source, start it again.",
            )

    def _start(self) -> None:
        room = self._settings.scanner.parallel_units - len(self._jobs)
        if room <= 0 or self._gate.cut_off() or self._authority.orders.draining or not self._backlog.queues:
            return
        for entry in self._backlog.startable(self._clock.now(), room, self._may_start):
            unit = entry.unit
            if unit is None:
                continue
            reason = self._gate.halt(unit) or uncovered(self._authority.book, unit)
            if reason is None:
                self._jobs.begin(entry, unit)
                continue
            if reason in UNFINISHED:
                return
            entry.finish(Outcome(self._jobs.over(entry, unit, reason)))
            self._meter.discarded("scope")
            log.warning("unit_refused", unit=unit.unit_id, reason=reason)

    def _may_start(self, entry: Entry) -> bool:
        """Not before the grant that the planner saw is known here too, or clearly does not come."""
        known = entry.unit is not None and knows_grant(self._authority.book, entry.unit)
        return known or uptime() - entry.taken_at > GRANT_PATIENCE

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
        gate = self._gate
        return Progress(state, partitions, len(self._jobs), self._done, gate.packets, gate.refused, gate.control)

    def _lag(self) -> int:
        lag = sum(len(queue) for queue in self._backlog.queues.values())
        for position in self._consumer.position([TopicPartition(self._topic, number) for number in self._backlog.queues]):
            if position.offset >= 0:
                _, high = self._consumer.get_watermark_offsets(position, cached=True)
                lag += max(0, high - position.offset)
        return lag
