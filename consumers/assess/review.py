"""The second loop of the assessor: takes pending reviews from `findings` to the model and publishes what it said to `exchanges`.

It has a consumer group of its own, so that no offset of the step ever waits for a model: the step has long committed the finding at
its base risk, and takes the exchange as one more input. Offsets here are committed once the exchanges of a batch are on the broker; after
a crash those that are there already are read, not asked for again.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from consumers.assess.answering import parse_follow_up
from consumers.assess.budget import MINUTE, Budgets, budgets_of
from consumers.assess.reviewer import ATTEMPTS, MOST_WAIT, Reviewer
from consumers.assess.stored import StoredAnswers
from infra.core.model_settings import ModelSettings
from infra.core.settings import Settings
from infra.core.telemetry import TELEMETRY
from infra.kafka.client import Publisher, consumer_config, prefixed, value_of
from infra.kafka.registry import codec_for
from schemas.codec import Codec, UndecodableError
from schemas.events.findings import Finding, FindingStatus, ModelExchange, ReviewStatus
from schemas.events.targets import Cause, TargetRequest
from schemas.ids import asset_key, content_id

log = structlog.get_logger()
GROUP, ROLE = "assessor-review", "assessor"
ROUNDS = 4
RESTART_SECONDS = 5.0
MOST_POLL_INTERVAL_MS = 86_400_000  # Kafka's own limit


def keep_reviewing(settings: Settings, stop: threading.Event) -> None:
    """Review until `stop` is set. Findings never depend on it, so that whatever breaks here is logged and tried again."""
    budgets = budgets_of(settings.model, time.monotonic)  # not the loop's: one that fails at once would spend without end
    while not stop.is_set():
        try:
            review_findings(settings, stop, budgets)
        except Exception:
            log.exception("review_loop_failed", again_in_seconds=RESTART_SECONDS)
            stop.wait(RESTART_SECONDS)


def review_findings(settings: Settings, stop: threading.Event, budgets: Budgets) -> None:
    """One life of the loop: batches of `ROUNDS` × parallel records.

    What was answered before is taken from `exchanges`; the rest is asked at once, each answer published as it comes; then it is committed.
    """
    codec, model = codec_for(settings), settings.model
    consumer = Consumer(consumer_config(settings, GROUP, **{"max.poll.interval.ms": poll_interval_ms(model)}))
    publisher, reviewer = Publisher(settings, codec), Reviewer(model, budgets=budgets)
    names = [endpoint.name or "" for endpoint in model.endpoints]
    stored = StoredAnswers(settings, codec, names, reviewer.prompt_hash, lambda exchange: remember(budgets, exchange))
    ledger = Ledger(model, reviewer)
    consumer.subscribe([prefixed(settings, "findings")])
    try:
        with asyncio.Runner() as runner:
            while not stop.is_set():
                ledger.show()
                batch = gather(consumer, model.parallel * ROUNDS)
                pending = pending_reviews(batch, codec)
                known = stored.answers(pending) if pending else {}
                for finding, _ in pending:
                    if exchange := known.get(finding.review.content_hash):
                        publish(publisher, finding, exchange)
                ledger.from_store += len(known)
                rest = [finding for finding, _ in pending if finding.review.content_hash not in known]
                if rest and not runner.run(unless_stopped(reviewer, rest, stop, publisher, ledger)):
                    return
                publisher.flush()
                commit(consumer, batch)
    finally:
        consumer.close()
        stored.close()


@dataclass(slots=True)
class Ledger:
    """What `driftline status` shows of the model: what was spent in the last hour, and what became of the questions of this process."""

    model: ModelSettings
    reviewer: Reviewer
    from_store: int = 0

    def show(self) -> None:
        """Tell it as it is now."""
        budgets, tally = self.reviewer.budgets, self.reviewer.tally
        TELEMETRY.details[ROLE] = {
            "model": self.model.name,
            "fallback": self.model.fallback.name if self.model.fallback else None,
            "last_hour": {
                name: {"spent": round(budget.spent(), 6), "limit": budget.limit}
                for name, budget in (
                    ("calls", budgets.calls),
                    ("tokens", budgets.tokens),
                    ("money", budgets.money),
                    ("follow_ups", budgets.follow_ups),
                )
            },
            "calls_per_minute": self.model.calls_per_minute,
            "parallel": self.model.parallel,
            "waiting": tally.waiting,
            "answered": tally.answered,
            "by_fallback": tally.by_fallback,
            "from_store": self.from_store,
            "failed": tally.failed,
        }


def remember(budgets: Budgets, exchange: ModelExchange) -> None:
    """Let what another life of this role spent count, so that a restart gives no new budget."""
    age = (datetime.now(UTC) - exchange.asked_at).total_seconds()
    tokens = exchange.input_tokens + exchange.output_tokens
    budgets.remember(exchange.calls, tokens, exchange.cost, len(exchange.follow_ups), max(0.0, age))


def poll_interval_ms(model: ModelSettings) -> int:
    """How long a batch may take at most: every round to the end of its last attempt, waits for the rate and the server, and a minute."""
    rounds = ROUNDS * ATTEMPTS * (model.timeout + MOST_WAIT)
    waits = ROUNDS * ATTEMPTS * model.parallel * MINUTE / model.calls_per_minute
    return min(math.ceil((rounds + waits + 60) * 1000), MOST_POLL_INTERVAL_MS)


def gather(consumer: Consumer, size: int) -> list[Message]:
    """The next records, up to a batch; empty if none came within half a second."""
    first = consumer.poll(0.5)
    found = [] if first is None else [first, *consumer.consume(size - 1, 0.01)]
    return [message for message in found if message.error() is None]


def pending_reviews(batch: Iterable[Message], codec: Codec) -> list[tuple[Finding, int]]:
    """The open findings of a batch that wait for a review, with their partitions: only the latest revision of each."""
    latest: dict[str, tuple[Finding, int]] = {}
    for message in batch:
        value = value_of(message)
        if value is None:
            continue
        try:
            event = codec.decode("findings", value)
        except UndecodableError as error:
            log.warning("undecodable_record", topic="findings", offset=message.offset(), reason=str(error))
            continue
        if isinstance(event, Finding):
            latest[event.finding_id] = event, message.partition() or 0
    return [one for one in latest.values() if one[0].review.status is ReviewStatus.PENDING and one[0].status is FindingStatus.OPEN]


async def unless_stopped(reviewer: Reviewer, pending: list[Finding], stop: threading.Event, publisher: Publisher, ledger: Ledger) -> bool:
    """Ask, and publish each answer as it comes. False if the role is to stop meanwhile: what has no answer is asked again later."""
    asking = asyncio.ensure_future(reviewer.review_all(pending, lambda finding, exchange: publish(publisher, finding, exchange)))
    while not asking.done():
        await asyncio.wait([asking], timeout=0.2)
        ledger.show()
        if stop.is_set() and not asking.done():
            asking.cancel()
            await asyncio.wait([asking])
            return False
    asking.result()
    return True


def publish(publisher: Publisher, finding: Finding, exchange: ModelExchange) -> None:
    """The exchange, and then the looks that it asks for: through the front door, past the scope check, like anyone's."""
    publisher.publish("exchanges", exchange.content_hash, exchange, route=exchange.finding_id)
    requests = follow_up_requests(finding, exchange)
    if requests:
        publisher.flush()  # it is stored before it is used
    for request in requests:
        publisher.publish("targets", asset_key(request.zone, request.targets[0]), request)


def follow_up_requests(finding: Finding, exchange: ModelExchange) -> list[TargetRequest]:
    """One request a follow-up; the id is of the content, so that a repeated exchange asks for nothing new."""
    found: list[TargetRequest] = []
    for text in exchange.follow_ups:
        wish = parse_follow_up(text)
        if wish is not None:
            fields: dict[str, Any] = {"zone": finding.zone, "targets": (wish.address,), "ports": wish.wanted, "cause": Cause.FOLLOW_UP}
            request_id = content_id("follow-up", exchange.content_hash, text)
            found.append(TargetRequest(request_id=request_id, requested_by=f"model {exchange.model}", **fields))
    return found


def commit(consumer: Consumer, batch: Iterable[Message]) -> None:
    """Commit after the last record of each partition. After a rebalance someone else reads on: that is no error."""
    ends: dict[tuple[str, int], int] = {}
    for message in batch:
        key = (message.topic() or "", message.partition() or 0)
        ends[key] = max(ends.get(key, 0), (message.offset() or 0) + 1)
    if not ends:
        return
    try:
        consumer.commit(offsets=[TopicPartition(topic, number, end) for (topic, number), end in ends.items()], asynchronous=False)
    except KafkaException as error:
        log.warning("review_commit_failed", reason=str(error.args[0]))
