"""Changes to findings on the real broker, with the model stage against a real HTTP server: a good answer, a bad one, none."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message
from pydantic import SecretStr

from consumers.assess import role as assessor
from infra.core.model_settings import ModelSettings
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import Publisher, read_whole, value_of
from infra.kafka.topics import TopicAdmin
from processors.correlate import role as correlator
from schemas.codec import Codec
from schemas.events.assets import AssetChange, ChangeKind
from schemas.events.findings import Finding, FindingStatus, ModelExchange, ReviewStatus
from schemas.events.observations import ServiceObservation
from schemas.events.targets import Cause, TargetRequest
from schemas.ids import asset_key, subnet_key
from tests.modelserver import ModelServer, running_model

pytestmark = pytest.mark.kafka
GOOD: dict[str, Any] = {
    "risk": 99.0,
    "explanation": "Anyone can write to it.",
    "action": "Set a password.",
    "evidence_ids": ["u1"],
    "follow_ups": ["tcp/22@198.18.0.7", "tcp/22@198.51.100.1"],
}


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    """A prefix of its own on the shared broker, topics made."""
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=f"m{uuid.uuid4().hex[:8]}.", partitions=2))
    TopicAdmin(made).apply()
    return made


def with_model(settings: Settings, server: ModelServer, **over: Any) -> Settings:
    model = ModelSettings(name="openai:test-model", base_url=server.url, api_key=SecretStr("k"), timeout=10.0).model_copy(update=over)
    return settings.model_copy(update={"model": model})


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    """Correlator and assessor at work."""
    stop, errors = threading.Event(), list[BaseException]()

    def guarded(run: Callable[..., None]) -> None:
        try:
            run(settings, stop, lambda: None)
        except BaseException as error:  # noqa: BLE001  told to the test below
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(role.run,)) for role in (correlator, assessor)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join(30)
        assert not any(thread.is_alive() for thread in threads)
        assert not errors, errors


def open_redis(settings: Settings, address: str = "198.18.0.7", revision: int = 1, version: str = "") -> None:
    seen = ServiceObservation(port=6379, service="redis", version=version, facts={"redis.auth": "none"})
    change = AssetChange(
        change_id=f"{address}-{revision}",
        kind=ChangeKind.SERVICE_OPENED,
        zone="default",
        address=address,
        subnet="198.18.0.0/24",
        revision=revision,
        port=6379,
        after=seen,
        summary="…",
        evidence_ids=("u1",),
        observed_at=datetime.now(UTC),
    )
    publisher = Publisher(settings, Codec())
    publisher.publish("changes", asset_key("default", address), change, route=subnet_key("default", change.subnet))
    publisher.flush()


def events(settings: Settings, topic: str) -> list[Any]:
    found: list[Message] = []
    read_whole(settings, topic, found.append)
    return [Codec().decode(topic, value_of(one) or b"") for one in found]


def findings(settings: Settings) -> list[Finding]:
    return [one for one in events(settings, "findings") if isinstance(one, Finding)]


def until(settings: Settings, condition: Callable[[Finding], bool], seconds: float = 60.0) -> Finding:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for one in findings(settings):
            if condition(one):
                return one
        time.sleep(0.1)
    raise AssertionError([one.model_dump(mode="json") for one in findings(settings)])


def test_a_good_answer_makes_the_next_revision_and_asks_through_the_front_door(settings: Settings) -> None:
    with running_model(lambda _: GOOD) as server:
        live = with_model(settings, server)
        with running(live):
            open_redis(live)
            done = until(live, lambda one: one.review.status is ReviewStatus.DONE)
        first, second = findings(live)
        assert (first.revision, first.risk, first.review.status) == (1, 90, ReviewStatus.PENDING)
        assert (second.revision, second.risk, second.review.explanation) == (2, 99, "Anyone can write to it.")
        assert done == second
        (exchange,) = events(live, "exchanges")
        assert isinstance(exchange, ModelExchange)
        assert (exchange.ok, exchange.input_tokens, exchange.follow_ups) == (True, 321, ("tcp/22@198.18.0.7",))
        (request,) = events(live, "targets")
        assert isinstance(request, TargetRequest)
        assert (request.targets, request.ports, request.cause) == (("198.18.0.7",), "22", Cause.FOLLOW_UP)
        with running(live):
            open_redis(live, address="198.18.0.8")
            until(live, lambda one: one.review.status is ReviewStatus.DONE and one.places[0].address == "198.18.0.8")
        assert len(server.asked) == 2, "what was answered before the restart was asked again"


@pytest.mark.parametrize("answer", [500, "no JSON", {**GOOD, "evidence_ids": ["invented"]}])
def test_a_bad_answer_leaves_the_finding_as_the_rules_wrote_it(settings: Settings, answer: Any) -> None:
    with running_model(lambda _: answer) as server, running(live := with_model(settings, server)):
        open_redis(live)
        failed = until(live, lambda one: one.review.status is ReviewStatus.FAILED)
    assert (failed.status, failed.risk, failed.revision) == (FindingStatus.OPEN, 90, 2)
    assert failed.review.note.endswith("The finding stands as the rules wrote it.")
    assert events(live, "targets") == []


def test_no_offset_waits_for_a_model_that_hangs(settings: Settings) -> None:
    with running_model(lambda _: GOOD) as server:
        server.slow = True
        live = with_model(settings, server, timeout=60.0)
        with running(live):
            open_redis(live)
            deadline = time.monotonic() + 60
            while not server.asked:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            open_redis(live, revision=2, version="7.0.15")
            changed = until(live, lambda one: one.revision == 2)
            assert changed.review.status is ReviewStatus.PENDING
            began = time.monotonic()
        assert time.monotonic() - began < 15, "stopping waited for the model"


def test_without_a_model_nothing_is_asked(settings: Settings) -> None:
    with running(settings):
        open_redis(settings)
        opened = until(settings, lambda one: one.revision == 1)
    assert opened.review.status is ReviewStatus.NONE
    assert events(settings, "exchanges") == []
