"""The second loop of the assessor: takes pending reviews from `findings` to the model and publishes what it said to `exchanges`.

It has a consumer group of its own, so that no offset of the step ever waits for a model: the step has long committed the finding at
its base risk, and takes the exchange as one more input. Offsets here are committed once the exchange is on the broker; asking twice
does no harm.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Iterable
from typing import Any

import structlog
from confluent_kafka import Consumer, KafkaException, Message, TopicPartition

from consumers.assess.answering import FOLLOW_UP
from consumers.assess.budget import Budgets, budgets_of
from consumers.assess.reviewer import ATTEMPTS, Reviewer
from infra.core.settings import ModelSettings, Settings
from infra.kafka.client import Publisher, consumer_config, prefixed, value_of
from infra.kafka.registry import codec_for
from schemas.codec import Codec, UndecodableError
from schemas.events.findings import Finding, FindingStatus, ModelExchange, ReviewStatus
from schemas.events.targets import Cause, TargetRequest
from schemas.ids import asset_key, content_id

log = structlog.get_logger()
GROUP = "assessor-review"
ROUNDS = 4
RESTART_SECONDS = 5.0


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
    """One life of the loop: batches of `ROUNDS` × parallel records, asked at once, published, then committed."""
    codec, model = codec_for(settings), settings.model
    size = model.parallel * ROUNDS
    consumer = Consumer(consumer_config(settings, GROUP, **{"max.poll.interval.ms": poll_interval_ms(model)}))
    publisher, reviewer = Publisher(settings, codec), Reviewer(model, budgets=budgets)
    consumer.subscribe([prefixed(settings, "findings")])
    try:
        with asyncio.Runner() as runner:
            while not stop.is_set():
                batch = gather(consumer, size)
                pending = pending_reviews(batch, codec)
                exchanges = runner.run(unless_stopped(reviewer, pending, stop)) if pending else []
                if exchanges is None:
                    return
                for finding, exchange in zip(pending, exchanges, strict=True):
                    publish(publisher, finding, exchange)
                publisher.flush()
                commit(consumer, batch)
    finally:
        consumer.close()


def poll_interval_ms(model: ModelSettings) -> int:
    """How long a batch may take at most: every round to the end of its last attempt, and a minute."""
    return math.ceil((ROUNDS * ATTEMPTS * model.timeout + 60) * 1000)


def gather(consumer: Consumer, size: int) -> list[Message]:
    """The next records, up to a batch; empty if none came within half a second."""
    first = consumer.poll(0.5)
    found = [] if first is None else [first, *consumer.consume(size - 1, 0.01)]
    return [message for message in found if message.error() is None]


def pending_reviews(batch: Iterable[Message], codec: Codec) -> list[Finding]:
    """The open findings of a batch that wait for a review: only the latest revision of each."""
    latest: dict[str, Finding] = {}
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
            latest[event.finding_id] = event
    return [one for one in latest.values() if one.review.status is ReviewStatus.PENDING and one.status is FindingStatus.OPEN]


async def unless_stopped(reviewer: Reviewer, pending: list[Finding], stop: threading.Event) -> list[ModelExchange] | None:
    """The exchanges, or None if the role is to stop meanwhile: then nothing is committed, and they are asked again later."""
    asking = asyncio.ensure_future(reviewer.review_all(pending))
    while not asking.done():
        await asyncio.wait([asking], timeout=0.2)
        if stop.is_set() and not asking.done():
            asking.cancel()
            await asyncio.wait([asking])
            return None
    return asking.result()


def publish(publisher: Publisher, finding: Finding, exchange: ModelExchange) -> None:
    """The exchange, and the looks that it asks for: through the front door, past the scope check, like anyone's."""
    publisher.publish("exchanges", exchange.content_hash, exchange, route=exchange.finding_id)
    for request in follow_up_requests(finding, exchange):
        publisher.publish("targets", asset_key(request.zone, request.targets[0]), request)


def follow_up_requests(finding: Finding, exchange: ModelExchange) -> list[TargetRequest]:
    """One request a follow-up; the id is of the content, so that a repeated exchange asks for nothing new."""
    found: list[TargetRequest] = []
    for text in exchange.follow_ups:
        match = FOLLOW_UP.fullmatch(text)
        if match is not None:
            fields: dict[str, Any] = {"zone": finding.zone, "targets": (match[2],), "ports": match[1], "cause": Cause.FOLLOW_UP}
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
