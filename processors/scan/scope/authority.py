"""What this scanner is allowed to do, as of a moment ago: follows `grants` and `commands` in a thread of its own.

`fresh_at` is the proof of contact: once a second the broker is asked where both topics end, and when everything up to there has been
read, the moment of the question counts. A poll that returns nothing proves nothing: it looks the same when the broker is gone.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from infra.core.clock import uptime
from infra.core.errors import DriftlineError, MissingPrerequisite
from infra.core.settings import Settings
from infra.core.trust import load_signers, signers_stamp
from infra.kafka.client import consumer_config, prefixed, value_of
from processors.scan.scope.floors import Floors, load_floors, save_floors
from processors.scan.scope.orders import Orders
from processors.scan.scope.remembered import sweeps_floors, together
from schemas.codec import Codec, UndecodableError
from schemas.events.grants import Command, Grant
from schemas.scope import GrantBook
from schemas.signing import TrustedSigner

log = structlog.get_logger()
POLL_SECONDS = 0.25
ASK_SECONDS = 1.0
CALM_SECONDS = 2.0  # between two questions while nothing is in work
TOPICS = ("grants", "commands")


@dataclass(slots=True)
class _Question:
    """Where the topics ended when they were asked."""

    asked_at: float
    ends: dict[str, int] = field(default_factory=dict)


class Authority:
    """The grants and orders that count now. `book` and `orders` are replaced as a whole, so any thread may read them."""

    def __init__(self, settings: Settings, agent_id: str, codec: Codec) -> None:
        self._settings, self._agent_id, self._codec = settings, agent_id, codec
        self._path = settings.data_dir / f"scanner-{settings.slot}" / "floors.json"
        self._stamp = signers_stamp(settings)
        saved = load_floors(self._path)
        shown = load_floors(sweeps_floors(settings.data_dir))  # a grant that came as a file: its revocation must hold here too
        saved = replace(together((saved, shown)), frozen=saved.frozen)
        self._believed = dict(saved.grants)  # by id, the last that was ever believed, whoever is trusted now
        self.book = GrantBook(load_signers(settings), dict(saved.revisions), required=settings.scope.signers_required)
        self.book = taught(self.book, self._believed.values())
        self.orders = Orders(frozen=saved.frozen)
        self.fresh_at = float("-inf")
        self.failure: Exception | None = None
        self._names = {prefixed(settings, topic): topic for topic in TOPICS}
        self._grants = prefixed(settings, "grants")
        self._read = dict.fromkeys(self._names, 0)
        self._held: list[Grant] = []
        self._held_until = 0  # while `grants` is read again, nothing counts before this offset is reached
        self._question = _Question(float("-inf"))
        self._answers = True
        self.calm = True  # the scanner has nothing in work
        self._stop = threading.Event()
        self._loaded = threading.Event()
        self._thread = threading.Thread(target=self._follow, name="authority", daemon=True)

    def start(self, stop: threading.Event, timeout: float = 60.0) -> None:
        """Read both topics to their end, and go on reading. Raises MissingPrerequisite if that takes too long."""
        self._thread.start()
        deadline = time.monotonic() + timeout
        while not self._loaded.wait(0.1) and not stop.is_set():
            self.raise_failure()
            if time.monotonic() > deadline:
                raise MissingPrerequisite(
                    f"The topics {' and '.join(self._names)} could not be read in {timeout:.0f} s.",
                    "Run 'driftline topics apply' and check that Kafka answers.",
                )

    def close(self) -> None:
        """Stop reading."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(10.0)

    def raise_failure(self) -> None:
        """Raise what ended the thread, if anything did: without it the scanner can't work."""
        if self.failure is not None:
            raise DriftlineError(f"The scanner lost sight of its grants ({self.failure}).", "It starts again by itself.") from self.failure

    def learn(self, grants: list[Grant]) -> None:
        """Take in grants, and keep on the disk what was believed. Raises OSError if the disk does not take it; they count all the same.

        A revocation must not wait for room on a disk; who follows `grants` ends by this error.
        """
        old = self.book
        book = taught(old, grants)
        believed = self._believed | {name: one.grant for name, one in book.known.items()}
        try:
            if book.floors != old.floors or believed != self._believed:
                save_floors(self._path, Floors(book.floors, believed, self.orders.frozen))
        finally:
            self.book, self._believed = book, believed

    def obey(self, orders: Orders) -> None:
        """Follow these orders from now on. What is frozen stays so over a restart, whatever becomes of the topic. Raises OSError."""
        before, self.orders = self.orders.frozen, orders
        if orders.frozen != before:
            save_floors(self._path, Floors(self.book.floors, self._believed, orders.frozen))

    def trust(self, signers: tuple[TrustedSigner, ...]) -> None:
        """Believe these signers, and what they signed, from now on. What was refused before must be read again, all before any counts."""
        self.book = taught(GrantBook(signers, dict(self.book.floors), required=self.book.required), self._believed.values())
        self._held_until, self._read[self._grants] = max(self._held_until, self._read[self._grants]), 0

    def _follow(self) -> None:
        # What is signed needs no commit; and a committed reader sees nothing behind a transaction that somebody leaves open.
        over = {"enable.partition.eof": True, "fetch.wait.max.ms": 2_000, "isolation.level": "read_uncommitted"}
        consumer = Consumer(consumer_config(self._settings, "scanner.authority", **over))
        # On the reader's own connection the question would wait behind its long poll.
        asker = Consumer(consumer_config(self._settings, "scanner.authority", **over))
        try:
            consumer.assign([TopicPartition(name, 0, 0) for name in self._names])
            while not self._stop.is_set():
                first = consumer.poll(POLL_SECONDS)
                if first is not None:
                    self._take([first, *consumer.consume(500, 0)])
                self._watch_signers(consumer)
                if uptime() - self._question.asked_at >= (CALM_SECONDS if self.calm else ASK_SECONDS):
                    self._ask(asker)
                self._judge()
        except Exception as error:  # whatever it is: the gate closes by itself, and the role must end
            log.exception("authority_failed")
            self.failure = error
        finally:
            consumer.close()
            asker.close()

    def _take(self, messages: list[Message]) -> None:
        orders = self.orders
        for message in messages:
            error, name, offset = message.error(), message.topic() or "", message.offset() or 0
            if error is not None:
                if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001  the library's own name for it
                    self._read[name] = max(self._read[name], offset)
                elif error.fatal():
                    raise KafkaException(error)
                continue
            event = self._decoded(message, self._names[name])
            if isinstance(event, Grant):
                self._held.append(event)
            elif isinstance(event, Command):
                orders = orders.after(event, self._agent_id)
            self._read[name] = max(self._read[name], offset + 1)
        self.obey(orders)
        if self._read[self._grants] >= self._held_until:
            self._learn_held()

    def _learn_held(self) -> None:
        if self._held:
            self.learn(self._held)
            self._held = []

    def _decoded(self, message: Message, topic: str) -> object:
        """The event; None for a tombstone (which changes nothing) or bytes that can't be decoded."""
        value = value_of(message)
        try:
            return None if value is None else self._codec.decode(topic, value)
        except UndecodableError as error:
            log.error("undecodable_authority_record", topic=topic, offset=message.offset(), reason=str(error))
            return None

    def _ask(self, asker: Consumer) -> None:
        question = _Question(uptime())
        try:
            for name in self._names:
                question.ends[name] = asker.get_watermark_offsets(TopicPartition(name, 0), timeout=ASK_SECONDS)[1]
        except KafkaException as error:
            if self._answers:
                log.warning("broker_does_not_answer", reason=str(error))
            self._answers = False
            return
        self._question, self._answers = question, True

    def _judge(self) -> None:
        ends = self._question.ends
        if ends and all(self._read[name] >= end for name, end in ends.items()):
            self._held_until = 0
            self._learn_held()
            self.fresh_at = self._question.asked_at
            self._loaded.set()

    def _watch_signers(self, consumer: Consumer) -> None:
        """Believe the signers file as it is now: what is known is judged again, what was refused is read again."""
        stamp = signers_stamp(self._settings)
        if stamp == self._stamp or not self._loaded.is_set():
            return
        self._stamp = stamp
        try:
            signers = load_signers(self._settings)
        except DriftlineError as error:
            log.error("signers_file_ignored", reason=str(error))
            return
        self.trust(signers)
        consumer.seek(TopicPartition(self._grants, 0, 0))
        log.info("signers_changed", signers=[one.name for one in signers])


def taught(book: GrantBook, grants: Iterable[Grant]) -> GrantBook:
    """Another book that knows these grants too; those that are not believed are logged."""
    new = replace(book, floors=dict(book.floors), known=dict(book.known))
    for grant in grants:
        reason = new.learn(grant)
        if reason:
            log.warning("grant_not_believed", grant=grant.grant_id, revision=grant.revision, reason=reason)
    return new
