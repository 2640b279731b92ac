"""How Driftline talks to Kafka: one place for client settings, names with the prefix, and plain publishing."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable
from typing import Any, TypeVar

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from infra.core.errors import DriftlineError, MissingPrerequisite, Refused
from infra.core.settings import Settings
from infra.kafka.login import login
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.ids import partition_of
from schemas.topics import topic_named

log = structlog.get_logger()
T = TypeVar("T")
MOST_BYTES = 8 << 20  # of one record; the embedded broker's limit is the same
MOST_VALUE = MOST_BYTES - 65_536  # of its value: the key, the headers and the batch around it need room too
PASSING = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
    KafkaError.UNSTABLE_OFFSET_COMMIT,
    KafkaError._TRANSPORT,  # noqa: SLF001  the library's own names
    KafkaError._ALL_BROKERS_DOWN,  # noqa: SLF001
    KafkaError._TIMED_OUT,  # noqa: SLF001
}
LOGIN_FAILED = {KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError._AUTHENTICATION}  # noqa: SLF001
FORBIDDEN = {
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.TRANSACTIONAL_ID_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
}
_quiet = logging.getLogger("librdkafka")


def prefixed(settings: Settings, name: str) -> str:
    """A topic, group or transactional id as it is called on the cluster."""
    return f"{settings.kafka.prefix}{name}"


def connection(settings: Settings) -> dict[str, Any]:
    """What every client needs to reach the cluster."""
    kafka, who = settings.kafka, login(settings)
    config: dict[str, Any] = {"bootstrap.servers": settings.bootstrap, "security.protocol": who.protocol, "logger": _quiet}
    if who.sasl:
        config |= {"sasl.mechanism": who.mechanism, "sasl.username": who.username, "sasl.password": who.password}
    if kafka.ca_file:
        config["ssl.ca.location"] = str(kafka.ca_file)
    if kafka.certificate_file:
        config |= {"ssl.certificate.location": str(kafka.certificate_file), "ssl.key.location": str(kafka.key_file)}
        if kafka.key_password:
            config["ssl.key.password"] = kafka.key_password.get_secret_value()
    return config


def consumer_config(settings: Settings, group: str, **over: Any) -> dict[str, Any]:
    """A consumer of committed records only. The range assignor keeps equal partitions of all inputs on one worker.

    The session timeout is longer than a scanner's cut-off (5 s), so that a successor starts only after its predecessor stopped sending.
    """
    return {
        **connection(settings),
        "group.id": prefixed(settings, group),
        "enable.auto.commit": False,
        "auto.offset.reset": "earliest",
        "isolation.level": "read_committed",
        "partition.assignment.strategy": "range",
        "session.timeout.ms": 10_000,
        "heartbeat.interval.ms": 3_000,
        "fetch.wait.max.ms": 3_000,  # how long an empty answer may take: at rest each costs the broker; a record ends the wait
        "fetch.queue.backoff.ms": 5,
        "queued.max.messages.kbytes": 16_384,
        **over,
    }


def producer_config(settings: Settings, **over: Any) -> dict[str, Any]:
    """An idempotent producer that waits for all replicas.

    One request at a time: a broker that knows nothing of a producer takes any first sequence number. If it becomes the leader between two
    requests, it refuses the first and takes the second, by which the client believes the first arrived too (KAFKA-15591, KAFKA-14312).
    """
    return {
        **connection(settings),
        "enable.idempotence": True,
        "max.in.flight.requests.per.connection": 1,
        "acks": "all",
        "linger.ms": 0,
        "compression.type": "lz4",
        "message.max.bytes": MOST_BYTES + 65_536,
        "queue.buffering.max.kbytes": 65_536,
        **over,
    }


def transactional_producer(settings: Settings, role: str, longest_ms: int = 10_000) -> Producer:
    """A producer with the role's stable transactional id, its predecessor's open transaction aborted; `longest_ms`: of a transaction."""
    over = {
        "transactional.id": prefixed(settings, f"{role}-{settings.slot}"),
        "transaction.timeout.ms": longest_ms,
        "linger.ms": 50,  # a commit flushes at once; until then records gather rather than wake the sender one by one
        # After a bootstrap anew, send_offsets_to_transaction may wait without end for a broker's former self (librdkafka #5511, #5456).
        "metadata.recovery.strategy": "none",
    }
    producer = Producer(producer_config(settings, **over))
    try:
        producer.init_transactions(30.0)
    except KafkaException as error:
        raise unreachable(settings, error) from None
    return producer


def abort(producer: Producer, settings: Settings, role: str) -> Producer:
    """Abort the open transaction. Returns the producer to go on with: a new one, of the next epoch. Raises KafkaException, DriftlineError.

    The old one may lose a record: what an abort purges it takes for never sent, and gives its sequence number to the next record. If the
    purged one had arrived, and only its answer had not, the broker takes the next for its copy and drops it (librdkafka 2.16).
    """
    insist(lambda: producer.abort_transaction(10.0))
    return transactional_producer(settings, role)


def unreachable(settings: Settings, error: KafkaException) -> DriftlineError:
    """The sentence for a cluster that does not answer, or that refuses."""
    cause = error.args[0]
    code = cause.code() if isinstance(cause, KafkaError) else None
    refused = _words(error) if code in LOGIN_FAILED else "" if code in FORBIDDEN else login_problem(settings)
    if refused:
        return login_refused(settings, refused)
    if code in FORBIDDEN:
        user = f" to the user {login(settings).username}" if login(settings).username else ""
        return Refused(
            f"Kafka at {settings.bootstrap} does not allow this{user} ({_words(error)}).",
            "Name the user with its roles in DRIFTLINE_KAFKA__PRINCIPALS, and run 'driftline topics apply' as an administrator.",
        )
    return MissingPrerequisite(
        f"Kafka at {settings.bootstrap} does not answer ({_words(error)}).",
        "Start it with 'driftline up', or name another with DRIFTLINE_KAFKA__BOOTSTRAP.",
    )


def is_lasting(error: KafkaError) -> bool:
    """Whether waiting does not mend it: it is fatal, or the topic is missing or forbidden."""
    return error.fatal() or error.code() in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError.TOPIC_AUTHORIZATION_FAILED)


def login_refused(settings: Settings, why: str) -> Refused:
    """The sentence for a login that the cluster does not take."""
    return Refused(
        f"Kafka at {settings.bootstrap} refuses the login ({why.rpartition('bootstrap: ')[2]}).",
        "Check DRIFTLINE_KAFKA__SECURITY_PROTOCOL, __SASL_USERNAME and __SASL_PASSWORD, or the certificate.",
    )


def login_problem(settings: Settings, seconds: float = 3.0, silence: str = "") -> str:
    """Why the cluster refuses our login; '' where there is none or it is accepted; `silence` where nobody answers.

    Clients try on and on and don't say.
    """
    if login(settings).protocol == "PLAINTEXT":
        return ""
    said: list[str] = []

    def note(error: KafkaError) -> None:
        # A certificate that the broker does not take is told by an alert after the handshake (TLS 1.3): to the library a lost connection.
        if error.code() in LOGIN_FAILED or error.code() == KafkaError._SSL or "SSL alert" in error.str():  # noqa: SLF001
            said.append(error.str())

    config: dict[str, Any] = {**connection(settings), "error_cb": note, "log_level": 0}
    asker = AdminClient(config)
    deadline = time.monotonic() + seconds
    while not said and time.monotonic() < deadline:
        try:
            asker.list_topics(timeout=0.5)
        except KafkaException:
            asker.poll(0.1)
        else:
            return ""
    return said[0] if said else silence


def value_of(message: Message) -> bytes | None:
    """The raw value of a record."""
    value = message.value()
    return value.encode() if isinstance(value, str) else value


def key_of(message: Message) -> str:
    """The key of a record as text; undecodable bytes are replaced, an absent key is empty."""
    key = message.key()
    return key.decode("utf-8", "replace") if isinstance(key, bytes) else key or ""


def patiently(ask: Callable[[], T], seconds: float = 30.0) -> T:
    """Ask a broker until it answers: right after a start or a new topic it may still be electing leaders.

    Raises KafkaException for an error that is not of the moment, or when the time is over.
    """
    deadline = time.monotonic() + seconds
    while True:
        try:
            return ask()
        except KafkaException as error:
            cause = error.args[0]
            passing = isinstance(cause, KafkaError) and (cause.retriable() or cause.code() in PASSING)
            if not passing or time.monotonic() > deadline:
                raise
            log.info("asking_again", reason=cause.str())
            time.sleep(0.2)


def insist(act: Callable[[], None], seconds: float = 60.0) -> None:
    """Do a step of a transaction again while librdkafka calls its error retriable, as it asks for. Raises KafkaException for any other."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return act()
        except KafkaException as error:
            cause = error.args[0]
            if not (isinstance(cause, KafkaError) and cause.retriable()) or time.monotonic() > deadline:
                raise
            log.info("trying_again", reason=cause.str())


def _words(error: KafkaException) -> str:
    cause = error.args[0]
    return cause.str() if isinstance(cause, KafkaError) else str(cause)


class Publisher:
    """Publishes single events outside any transaction: for commands, heartbeats, intake."""

    def __init__(self, settings: Settings, codec: Codec) -> None:
        self._settings, self._codec = settings, codec
        self._producer = Producer(producer_config(settings, **{"linger.ms": 5, "message.timeout.ms": 30_000}))
        self._failed: list[str] = []

    def publish(self, topic: str, key: str, event: Event | None, route: str | None = None, partition: int | None = None) -> None:
        """Queue one event (None: a tombstone). `route` decides the partition (default: the key)."""
        value = None if event is None else self._codec.encode(topic, event)
        where = partition
        if where is None:
            where = partition_of(route or key, topic_named(topic).partitions(self._settings.kafka.partitions))
        send = functools.partial(
            self._producer.produce, prefixed(self._settings, topic), value, key.encode(), where, on_delivery=self._delivered
        )
        try:
            send()
        except BufferError:
            self._producer.poll(1.0)
            send()
        self._producer.poll(0)

    def flush(self, timeout: float = 30.0) -> None:
        """Wait until the broker has it all. Raises MissingPrerequisite if it does not take it."""
        left = self._producer.flush(timeout)
        if left or self._failed:
            reason = self._failed[0] if self._failed else "time ran out"
            raise MissingPrerequisite(
                f"{left + len(self._failed)} records were not taken by Kafka at {self._settings.bootstrap} ({reason}).",
                "Check 'driftline status'; if the topic is unknown, run 'driftline topics apply'.",
            )

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed.append(error.str())


def read_whole(
    settings: Settings, topic: str, each: Callable[[Message], None], timeout: float = 30.0, isolation: str = "read_committed"
) -> None:
    """Hand every record of a topic, as it stands now, to `each`. Raises MissingPrerequisite if Kafka does not answer in time."""
    over = {"enable.partition.eof": True, "isolation.level": isolation, "fetch.wait.max.ms": 20}
    consumer = Consumer(consumer_config(settings, "read-whole", **over))
    name = prefixed(settings, topic)
    try:
        metadata = consumer.list_topics(name, timeout).topics[name]
        if metadata.error is not None and metadata.error.code() in FORBIDDEN:
            raise KafkaException(metadata.error)
        if metadata.error is not None:
            raise MissingPrerequisite(f"The topic {name} does not exist.", "Run 'driftline topics apply'.")
        ends = {number: end_of(consumer, TopicPartition(name, number), timeout) for number in metadata.partitions}
        waiting = set(ends)
        consumer.assign([TopicPartition(name, partition, 0) for partition in waiting])
        while waiting:
            message = consumer.poll(timeout)
            if message is None:
                raise MissingPrerequisite(f"Kafka at {settings.bootstrap} stopped answering.", "Check 'driftline status'.")
            error, number = message.error(), message.partition() or 0
            if error is None:
                each(message)
            elif error.code() == KafkaError._PARTITION_EOF and (message.offset() or 0) >= ends[number]:  # noqa: SLF001  the library's own name
                waiting.discard(number)
    except KafkaException as error:
        raise unreachable(settings, error) from None
    finally:
        consumer.close()


def end_of(consumer: Consumer, place: TopicPartition, timeout: float) -> int:
    """The first offset that this reader will not see: the end, or where the first open transaction begins. Raises KafkaException.

    A new leader's answers to a reader may end before what was committed, until its followers have spoken. This question waits for
    them (KIP-207); so what is fetched has been read to its end only where it is as far as this.
    """
    return patiently(lambda: consumer.get_watermark_offsets(place, timeout)[1])


def read_table(settings: Settings, topic: str, codec: Codec | None = None) -> dict[str, Event]:
    """The latest event of each key of a compacted topic. Records that can't be decoded are left out, with one warning for all."""
    found: dict[str, Event] = {}
    bad: list[str] = []
    decoder = codec or Codec()

    def take(message: Message) -> None:
        value = value_of(message)
        if value is None:
            found.pop(key_of(message), None)
            return
        try:
            found[key_of(message)] = decoder.decode(topic, value)
        except ValueError as error:
            bad.append(f"offset {message.offset()}: {error}")

    read_whole(settings, topic, take)
    if bad:
        log.warning("undecodable_records", topic=topic, count=len(bad), first=bad[0])
    return found
