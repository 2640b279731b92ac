"""Brings one webhook's pages to its receiver, at least once and in order; what it does not take goes to `dlq.pages`.

A message is made in four steps: gather pages, note in the metadata of an offset commit where the group ends, send, commit behind it.
Whoever goes on after a crash gathers to the noted end, and so sends the same bytes under the same id. The topic `pages` has one
partition, so that one courier of a webhook is at work at a time; none of this ever holds up `findings.ocsf`.
"""

from __future__ import annotations

import threading
import time

import structlog
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from consumers.notify.message import compose, headers
from consumers.notify.posting import Outcome, post
from infra.core.notifier_settings import Webhook
from infra.core.settings import Settings
from infra.core.telemetry import Meter
from infra.kafka.client import consumer_config, patiently, prefixed, transactional_producer, value_of
from infra.kafka.deadletters import dead_letter
from infra.kafka.registry import codec_for
from schemas.codec import UndecodableError
from schemas.events.findings import Page

log = structlog.get_logger()
TOPIC = "pages"
RESTART_SECONDS = 5.0
POLL_SECONDS = 0.2
NOTED_SECONDS = 60.0
"""How long the rest of a group that was noted is waited for: it is on the topic, unless somebody emptied that."""


class NotTakenError(Exception):
    """A receiver did not take a message, for good."""


class LeftError(Exception):
    """The partition went to another worker, or the role is to stop: whoever has it next goes on from what was noted."""


def keep_delivering(settings: Settings, webhook: Webhook, stop: threading.Event) -> None:
    """Deliver until `stop` is set. Findings never depend on it, so that whatever breaks here is logged and tried again."""
    while not stop.is_set():
        try:
            courier = Courier(settings, webhook, stop)
            try:
                courier.run()
            finally:
                courier.close()
        except Exception:
            log.exception("webhook_failed", webhook=webhook.name, again_in_seconds=RESTART_SECONDS)
            stop.wait(RESTART_SECONDS)


class Courier:
    """One webhook's loop."""

    def __init__(self, settings: Settings, webhook: Webhook, stop: threading.Event) -> None:
        self._settings, self._webhook, self._stop = settings, webhook, stop
        self._codec, self._meter = codec_for(settings), Meter("notifier")
        self._consumer = Consumer(consumer_config(settings, f"notifier.{webhook.name}", **{"fetch.wait.max.ms": 500}))
        self._producer: Producer | None = None
        self._epoch = 0
        self._noted: int | None = None  # the last offset of the group that a predecessor may have sent
        self._asked = False
        self._consumer.subscribe([prefixed(settings, TOPIC)], on_assign=self._assigned, on_revoke=self._revoked, on_lost=self._revoked)

    def close(self) -> None:
        """Leave the group."""
        self._consumer.close()

    def run(self) -> None:
        """Deliver until the role is to stop."""
        while not self._stop.is_set():
            try:
                group = self._gather()
                if group:
                    self._deliver(group)
            except LeftError:
                self._consumer.resume(self._consumer.assignment())

    def _assigned(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._epoch += 1
        self._asked = False
        consumer.assign(partitions)

    def _revoked(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        del consumer, partitions
        self._epoch += 1

    def _note_of(self, first: Message) -> int | None:
        """Where the group that begins with this record ended, if one was noted."""
        if not self._asked:
            place = TopicPartition(first.topic() or "", first.partition() or 0)
            (committed,) = patiently(lambda: self._consumer.committed([place], 10.0))
            self._noted, self._asked = noted_end(committed.metadata), True
        return self._noted

    def _gather(self) -> list[Message]:
        """The pages of the next message: to the noted end, else what comes within a while. Empty if nothing came."""
        first = self._poll(POLL_SECONDS)
        if first is None:
            return []
        epoch, end, most = self._epoch, self._note_of(first), self._settings.notifier.group_most
        found, until = [first], time.monotonic() + self._settings.notifier.group_seconds
        if end is not None:
            until += NOTED_SECONDS
        while (found[-1].offset() or 0) < end if end is not None else len(found) < most:
            left = until - time.monotonic()
            if left <= 0:
                break
            message = self._poll(min(left, POLL_SECONDS))
            if self._stop.is_set() or self._epoch != epoch:
                raise LeftError
            if message is not None and end is not None and (message.offset() or 0) > end:
                self._consumer.seek(TopicPartition(message.topic() or "", message.partition() or 0, message.offset() or 0))
                break  # what lay between is no more: the topic's time was over
            if message is not None:
                found.append(message)
        return found

    def _poll(self, seconds: float) -> Message | None:
        message = self._consumer.poll(seconds)
        if message is None:
            return None
        error = message.error()
        if error is not None:
            log.warning("consumer_error", webhook=self._webhook.name, reason=error.str())
            return None
        return message

    def _deliver(self, group: list[Message]) -> None:
        pages, bad = list[Page](), list[tuple[Message, Exception]]()
        for message in group:
            try:
                event = self._codec.decode(TOPIC, value_of(message) or b"")
            except UndecodableError as error:
                # Every webhook reads every page; the first in the settings sets aside what none can read.
                if self._webhook.name == self._settings.notifier.webhooks[0].name:
                    bad.append((message, error))
                continue
            if isinstance(event, Page) and event.webhook == self._webhook.name:
                pages.append(event)
        last = group[-1].offset() or 0
        if pages:
            self._commit(group[0].offset() or 0, note_of(last))
            outcome = self._send(pages)
            if not outcome.taken:
                mine = {one.page_id for one in pages}
                bad += [(one, NotTakenError(f"{self._webhook.name}: {outcome.reason}")) for one in group if self._is(one, mine)]
        if bad:
            self._set_aside(bad, last + 1)
        else:
            self._commit(last + 1, "")
        self._noted = None

    def _is(self, message: Message, page_ids: set[str]) -> bool:
        try:
            event = self._codec.decode(TOPIC, value_of(message) or b"")
        except UndecodableError:
            return False
        return isinstance(event, Page) and event.page_id in page_ids

    def _send(self, pages: list[Page]) -> Outcome:
        """Send one message until it is taken or given up. Raises LeftError when it is no longer ours."""
        notifier, secret = self._settings.notifier, self._webhook.secret
        message, epoch, wait = compose(self._webhook.name, pages), self._epoch, notifier.backoff_seconds
        self._consumer.pause(self._consumer.assignment())
        for attempt in range(1, notifier.attempts + 1):
            signed = headers(message, secret.get_secret_value() if secret else "", int(time.time()))
            outcome = post(self._webhook.url, signed, message.body, notifier.timeout)
            if outcome.taken or not outcome.again or attempt == notifier.attempts:
                break
            self._meter.error(f"webhook {self._webhook.name}: {outcome.reason}")
            log.warning("webhook_not_taken", webhook=self._webhook.name, message=message.message_id, attempt=attempt, reason=outcome.reason)
            self._rest(min(max(wait, outcome.after), notifier.backoff_most_seconds), epoch)
            wait *= 2
        self._rest(0.0, epoch)
        self._consumer.resume(self._consumer.assignment())
        return outcome

    def _rest(self, seconds: float, epoch: int) -> None:
        """Wait and stay in the group; nothing is fetched meanwhile."""
        until = time.monotonic() + seconds
        while True:
            self._consumer.poll(min(POLL_SECONDS, max(0.0, until - time.monotonic())))
            if self._stop.is_set() or self._epoch != epoch:
                raise LeftError
            if time.monotonic() >= until:
                return

    def _commit(self, offset: int, metadata: str) -> None:
        place = TopicPartition(prefixed(self._settings, TOPIC), 0, offset, metadata)
        try:
            self._consumer.commit(offsets=[place], asynchronous=False)
        except KafkaException as error:
            log.warning("webhook_commit_failed", webhook=self._webhook.name, reason=str(error.args[0]))
            raise

    def _set_aside(self, bad: list[tuple[Message, Exception]], offset: int) -> None:
        """Put these on the DLQ and commit behind the group, in one transaction."""
        for message, error in bad:
            log.error("page_set_aside", webhook=self._webhook.name, offset=message.offset(), reason=str(error))
            self._meter.error(str(error))
        self._producer = self._producer or transactional_producer(self._settings, f"notifier.{self._webhook.name}")
        self._producer.begin_transaction()
        for message, error in bad:
            dead_letter(self._producer, self._settings, message, TOPIC, error)
        place = TopicPartition(prefixed(self._settings, TOPIC), 0, offset)
        self._producer.send_offsets_to_transaction([place], self._consumer.consumer_group_metadata(), 30.0)
        self._producer.commit_transaction(30.0)
        self._meter.discarded("publish", len(bad))


def note_of(last: int) -> str:
    """The metadata that says where a group ends."""
    return f"until {last}"


def noted_end(metadata: str | None) -> int | None:
    """What the metadata of a commit says, if it does."""
    word, _, number = (metadata or "").partition(" ")
    return int(number) if word == "until" and number.isdecimal() else None
