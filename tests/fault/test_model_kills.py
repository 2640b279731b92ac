"""`kill -9` of the assessor in the middle of 500 questions to a model: no finding is lost or doubled, no stored answer paid for twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Message

from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import Publisher, read_whole, value_of
from infra.kafka.topics import TopicAdmin
from schemas.codec import Codec
from schemas.events.findings import Finding, ModelExchange, ReviewStatus
from schemas.ids import content_id, finding_id
from tests.findings import exposure
from tests.modelserver import ModelServer, running_model
from tests.ports import free_ports
from tests.processes import end

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(300)]
RULE = "redis-without-password"


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    """A prefix of its own on the shared broker, topics made."""
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=f"mk{uuid.uuid4().hex[:8]}.", partitions=3))
    TopicAdmin(made).apply()
    return made


@contextmanager
def assessor(settings: Settings, server: ModelServer, **over: str) -> Iterator[subprocess.Popen[bytes]]:
    """The role in a process of its own."""
    (port,) = free_ports(1)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("DRIFTLINE_")} | {
        "DRIFTLINE_DATA_DIR": str(settings.data_dir),
        "DRIFTLINE_KAFKA__BOOTSTRAP": settings.bootstrap,
        "DRIFTLINE_KAFKA__PREFIX": settings.kafka.prefix,
        "DRIFTLINE_KAFKA__PARTITIONS": str(settings.kafka.partitions),
        "DRIFTLINE_TELEMETRY__PORT_BASE": str(port),
        "DRIFTLINE_MODEL__NAME": "openai:test-model",
        "DRIFTLINE_MODEL__BASE_URL": server.url,
        "DRIFTLINE_MODEL__CALLS_PER_HOUR": "10000",
        "DRIFTLINE_MODEL__CALLS_PER_MINUTE": "100000",
        **over,
    }
    with (settings.data_dir / "assessor.log").open("ab") as log:
        process = subprocess.Popen([sys.executable, "-m", "infra.app.cli", "run", "assessor"], env=environment, stdout=log, stderr=log)
    try:
        yield process
    finally:
        if process.poll() is None:
            end(process)


def open_findings(settings: Settings, count: int) -> None:
    publisher = Publisher(settings, Codec())
    for number in range(count):
        subject = f"198.18.{number // 250}.{number % 250}:tcp/6379"
        finding = finding_id("default", RULE, subject)
        place = content_id("exposure", finding, number)
        event = exposure(
            subject=subject, finding_id=finding, exposure_id=place, title=f"Number {number}.", address=f"198.18.{number // 250}.7"
        )
        publisher.publish("exposures", finding, event, route=finding)
    publisher.flush()


def events(settings: Settings, topic: str) -> list[Any]:
    """Every record of a topic, also what compaction would take."""
    found: list[Message] = []
    read_whole(settings, topic, found.append)
    return [Codec().decode(topic, value_of(one) or b"") for one in found]


def until(condition: Callable[[], bool], seconds: float, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, "the assessor ended"
        assert time.monotonic() < deadline
        time.sleep(0.05)


def stored(settings: Settings) -> set[str]:
    """The findings whose answers are on the broker."""
    return {one.finding_id for one in events(settings, "exchanges") if isinstance(one, ModelExchange) and one.ok}


def reviewed(settings: Settings) -> Mapping[str, Finding]:
    return {one.finding_id: one for one in events(settings, "findings") if one.review.status is ReviewStatus.DONE}


@pytest.mark.parametrize(("questions", "kills"), [(60, (20,)), pytest.param(500, (120, 320), marks=pytest.mark.long)])
def test_killed_in_the_middle_it_pays_for_no_stored_answer_again(settings: Settings, questions: int, kills: tuple[int, ...]) -> None:
    """`kills`: after how many questions the role is killed."""
    calls: Counter[str] = Counter()

    def answer(user: str) -> dict[str, Any]:
        told = json.loads("\n".join(user.splitlines()[1:-1]))
        calls[finding_id("default", RULE, told["subject"])] += 1
        server.release.wait(0.02)
        return {"risk": 60, "explanation": "Anyone can read it.", "action": "Set a password.", "evidence_ids": ["u1"], "follow_ups": []}

    server: ModelServer
    with running_model(answer) as server:
        open_findings(settings, questions)
        paid: list[tuple[set[str], Counter[str]]] = []
        for kill in kills:
            with assessor(settings, server) as process:
                until(lambda least=kill: calls.total() >= least, 90, process)  # type: ignore[misc]
                process.send_signal(signal.SIGKILL)
                process.wait()
            paid.append((stored(settings), calls.copy()))
        with assessor(settings, server) as process:
            until(lambda: len(reviewed(settings)) == questions, 120, process)
        for answers, before in paid:
            assert answers
            again = {one for one in answers if calls[one] != before[one]}
            assert not again, f"{len(again)} of {len(answers)} stored answers were paid for again"
    lost = max(before.total() - len(answers) for answers, before in paid)
    print(f"{calls.total()} calls for {questions} findings, {[len(one) for one, _ in paid]} stored at the kills, {lost} in flight at most")
    told = [one for one in events(settings, "findings") if isinstance(one, Finding)]
    assert max(Counter((one.finding_id, one.revision) for one in told).values()) == 1, "a revision was told twice"
    assert len(told) == 2 * questions
    assert all(one.revision == 2 and one.risk == 60 and one.review.action for one in reviewed(settings).values())
    assert calls.total() <= questions + len(kills) * 2 * 4, "more than what was in flight was asked again"


def test_a_restart_gives_no_new_budget(settings: Settings) -> None:
    good = {"risk": 60, "explanation": "Anyone can read it.", "action": "Set a password.", "evidence_ids": ["u1"], "follow_ups": []}
    with running_model(lambda _: good) as server:
        limit = {"DRIFTLINE_MODEL__CALLS_PER_HOUR": "8", "DRIFTLINE_KAFKA__PARTITIONS": "1"}
        one = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 1})})
        open_findings(one, 6)
        with assessor(one, server, **limit) as process:
            until(lambda: len(reviewed(one)) == 6, 60, process)
        open_findings(one, 12)
        with assessor(one, server, **limit) as process:
            until(lambda: len(stored(one)) == 8 and sum(not said.ok for said in events(one, "exchanges")) == 4, 60, process)
        assert len(server.asked) == 8
