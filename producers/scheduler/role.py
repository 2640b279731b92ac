"""The scheduler role: reads `campaigns`, writes `targets` and `ticks`, remembers what it fired in `state.scheduler`.

Any number of schedulers may run; the one that owns the only partition of `campaigns` is active. It opens the transactional id
`scheduler`, which ends whatever its predecessor left open and bars it from writing, and only then reads the state. Requests, ticks and
state go out in one transaction: a slot is fired once, whatever dies when.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta

import structlog
from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition

from infra.core.clock import SteadyClock
from infra.core.errors import BadInput
from infra.core.ports import Emit
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from infra.kafka.client import consumer_config, key_of, prefixed, read_whole, transactional_producer, unreachable, value_of
from infra.kafka.deadletters import dead_letter
from infra.kafka.registry import codec_for
from infra.kafka.timestamps import EPOCH
from producers.scheduler.due import due_slot
from producers.scheduler.firing import TICKS, Timetable, firing
from schemas.codec import Codec, UndecodableError
from schemas.events.targets import Campaign
from schemas.ids import partition_of
from schemas.topics import topic_named

log = structlog.get_logger()
POLL_SECONDS = 0.5


def run(settings: Settings, stop: threading.Event, ready: Callable[[], None], clock: SteadyClock | None = None) -> None:
    """Schedule until `stop` is set. Raises DriftlineError for what a person must mend."""
    scheduler = Scheduler(settings, codec_for(settings), clock or SteadyClock())
    try:
        scheduler.run(stop, ready)
    except KafkaException as error:
        raise unreachable(settings, error) from error
    finally:
        scheduler.close()


class Scheduler:
    """One scheduler, active or waiting to be."""

    def __init__(self, settings: Settings, codec: Codec, clock: SteadyClock) -> None:
        self._settings, self._codec, self._clock = settings, codec, clock
        self._table = Timetable(settings.kafka.partitions, settings.scheduler.tick_seconds, settings.planner.max_addresses)
        self._meter = Meter("scheduler")
        self._consumer = Consumer(consumer_config(settings, "scheduler", **{"enable.partition.eof": True}))
        self._producer: Producer | None = None
        self._answered = self._owner = self._whole = False
        self._campaigns: dict[str, Campaign] = {}
        self._bad: list[tuple[Message, Exception]] = []
        self._state: dict[str, bytes] = {}

    def run(self, stop: threading.Event, ready: Callable[[], None]) -> None:
        """Take in campaigns and fire what is due until `stop` is set; `ready` is called once the group has given this one its part."""
        name = prefixed(self._settings, "campaigns")
        self._consumer.subscribe([name], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)
        announced = False
        while not stop.is_set():
            message = self._consumer.poll(POLL_SECONDS)
            self._meter.beat()
            while message is not None:
                self._take(message)
                message = self._consumer.poll(0)
            if self._owner and self._whole:
                self._fire()
            if not announced and self._answered and (self._whole or not self._owner):
                announced = True
                self._meter.ready()
                ready()

    def close(self) -> None:
        """Leave the group, so that another becomes active at once."""
        self._consumer.close()

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._answered, self._owner, self._whole = True, bool(partitions), False
        self._producer = None
        self._campaigns.clear()
        consumer.assign([TopicPartition(one.topic, one.partition, 0) for one in partitions])

    def _revoked(self, _: Consumer, __: list[TopicPartition]) -> None:
        self._owner, self._producer = False, None

    def _take(self, message: Message) -> None:
        error = message.error()
        if error is not None:
            if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  the library's own name for it
                self._whole = True
            elif error.fatal() or error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED):
                raise KafkaException(error)
            return
        self._meter.received()
        key, value = key_of(message), value_of(message)
        self._campaigns.pop(key, None)
        if value is None:
            return
        try:
            campaign = self._codec.decode("campaigns", value)
            if not isinstance(campaign, Campaign) or campaign.campaign_id != key or key == TICKS:
                raise BadInput("The key of a campaign must be its id.")
            due_slot(campaign, None, self._clock.now())
            self._campaigns[key] = campaign
        except (UndecodableError, ValueError, ArithmeticError, BadInput) as reason:
            self._bad.append((message, reason))

    def _fire(self) -> None:
        producer = self._producer
        if producer is None:
            producer = transactional_producer(self._settings.model_copy(update={"slot": 0}), "scheduler")
            self._state = self._remembered()
            self._producer = producer
            log.info("scheduler_active", campaigns=len(self._campaigns))
        bad = self._news_of_bad()
        outputs = list(firing(self._campaigns, self._state, self._clock.now(), self._table))
        if not outputs and not bad:
            return
        producer.begin_transaction()
        try:
            for message, reason in bad:
                dead_letter(producer, self._settings, message, "campaigns", reason)
            for one in outputs:
                self._send(producer, one)
            positions = [one for one in self._consumer.position(self._consumer.assignment()) if one.offset >= 0]
            producer.flush(30.0)  # a transaction that passes the group's check below must hold all of its records already
            producer.send_offsets_to_transaction(positions, self._consumer.consumer_group_metadata(), 30.0)
            producer.commit_transaction(30.0)
        except KafkaException as error:
            cause = error.args[0]
            if not (isinstance(cause, KafkaError) and cause.txn_requires_abort()):
                raise
            log.warning("transaction_aborted", reason=cause.str())
            self._meter.error(cause.str())
            producer.abort_transaction(30.0)
            self._producer = None  # if it is still ours to fire, a new one does: see `infra.kafka.client.abort`
            return
        self._bad.clear()
        news = {one.key: one.raw for one in outputs if one.topic == "state.scheduler"}
        self._state = {key: value for key, value in (self._state | news).items() if value is not None}
        self._meter.emitted(len(outputs))
        log.info("fired", records=len(outputs), set_aside=len(bad))

    def _news_of_bad(self) -> list[tuple[Message, Exception]]:
        """Bad campaigns that no scheduler has set aside yet: those behind the committed offset."""
        if not self._bad:
            return []
        position = self._consumer.committed(self._consumer.assignment(), 30.0)[0].offset
        self._bad = [one for one in self._bad if (one[0].offset() or 0) >= position]
        for message, reason in self._bad:
            self._meter.discarded("decode" if isinstance(reason, UndecodableError) else "handle")
            self._meter.error(str(reason))
            log.warning("record_set_aside", topic="campaigns", offset=message.offset(), reason=str(reason))
        return self._bad

    def _send(self, producer: Producer, one: Emit) -> None:
        row = topic_named(one.topic)
        partition = one.partition if one.partition is not None else partition_of(one.key, row.partitions(self._settings.kafka.partitions))
        value = one.raw if one.event is None else self._codec.encode(one.topic, one.event)
        sent = self._clock.wall()

        def told(error: KafkaError | None, message: Message) -> None:
            kind, appended = message.timestamp()
            if error is None and kind == TIMESTAMP_LOG_APPEND_TIME:
                self._clock.heard(sent, EPOCH + timedelta(milliseconds=appended))

        while True:
            try:
                producer.produce(prefixed(self._settings, one.topic), value, one.key.encode(), partition, on_delivery=told)
                return
            except BufferError:
                producer.poll(0.1)

    def _remembered(self) -> dict[str, bytes]:
        found: dict[str, bytes] = {}

        def take(message: Message) -> None:
            value = value_of(message)
            if value is None:
                found.pop(key_of(message), None)
            else:
                found[key_of(message)] = value

        read_whole(self._settings, "state.scheduler", take)
        return found
