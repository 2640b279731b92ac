"""The notifier's webhooks on the real broker, against real receivers that fail, are away, and while the notifier is killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Message
from pydantic import SecretStr

from consumers.notify import role
from consumers.notify.message import Message as Sent
from consumers.notify.message import headers
from infra.core.notifier_settings import NotifierSettings, Webhook
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import Publisher, read_whole
from infra.kafka.deadreading import dead_letters, replay
from infra.kafka.topics import TopicAdmin
from schemas.codec import Codec
from tests.ports import free_ports
from tests.receivers import Answer, Receiver, Taken, receiving
from tests.unit.test_paging import finding
from tests.unit.test_webhook_message import SECRET

pytestmark = pytest.mark.kafka
STORM = 400


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    """A prefix of its own on the shared broker, topics made."""
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=f"w{uuid4().hex[:8]}.", partitions=2))
    TopicAdmin(made).apply()
    return made


def hooked(settings: Settings, *receivers: tuple[str, Receiver], **over: float) -> Settings:
    webhooks = tuple(Webhook(name=name, url=one.url, secret=SecretStr(SECRET)) for name, one in receivers)
    quick = {"group_seconds": 0.5, "timeout": 10.0, "attempts": 3, "backoff_seconds": 0.05, **over}
    return settings.model_copy(update={"notifier": NotifierSettings.model_validate({"webhooks": webhooks, **quick})})


@contextmanager
def notifying(settings: Settings) -> Iterator[None]:
    """A notifier at work in this process."""
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=role.run, args=(settings, stop, ready.set))
    thread.start()
    try:
        assert ready.wait(60)
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def publish(settings: Settings, count: int, revision: int = 1) -> None:
    outlet = Publisher(settings, Codec())
    for number in range(count):
        event = finding(revision, finding_id=f"{number:032x}")
        outlet.publish("findings", event.finding_id, event)
    outlet.flush()


def whole(settings: Settings, topic: str) -> list[Message]:
    found: list[Message] = []
    read_whole(settings, topic, found.append)
    return found


def told(requests: list[Taken]) -> int:
    """Findings that different messages told of."""
    return sum(one.data["count"] for one in {one.headers["webhook-id"]: one for one in requests}.values())


def is_signed(one: Taken) -> bool:
    """Whether a receiver that knows the secret believes it."""
    wanted = headers(Sent(one.headers["webhook-id"], one.body), SECRET, int(one.headers["webhook-timestamp"]))
    return wanted["webhook-signature"] == one.headers["webhook-signature"]


def test_a_storm_is_few_messages_and_a_receiver_that_is_away_holds_up_nobody(settings: Settings) -> None:
    answers: dict[str, Answer] = {"away": 500}
    with receiving() as soc, receiving(lambda _: answers["away"]) as away:
        made = hooked(settings, ("away", away), ("soc", soc))
        with notifying(made):
            publish(made, STORM)
            soc.until(lambda: told(soc.taken()) == STORM)
            assert len(soc.taken()) <= 4
            assert all(map(is_signed, soc.taken()))
            away.until(lambda: len(dead_letters(made, "pages")) == STORM)
            assert len(whole(made, "findings.ocsf")) == STORM
            ids = [one.headers["webhook-id"] for one in away.requests]
            assert all(ids.count(one) == 3 for one in ids), "each message is tried three times, under one id"
            letters = dead_letters(made, "pages")
            assert {one.error for one in letters} == {"NotTakenError"}
            assert {one.reason for one in letters} == {"away: it answered 500"}
            answers["away"] = 200
            assert replay(made, "pages", STORM).back == STORM
            away.until(lambda: told(away.taken()) == STORM)
            assert told(soc.taken()) == STORM, "what went back was for the other one"


def test_500_drop_and_silence_are_tried_again_and_a_redirect_is_not(settings: Settings) -> None:
    script: list[Answer] = [500, "drop", "hang", 204, 302, 204]
    with receiving(lambda number: script[number]) as receiver:
        receiver.headers["location"] = "/elsewhere"
        made = hooked(settings, ("soc", receiver), attempts=8, timeout=3.0)
        with notifying(made):
            publish(made, 1)
            receiver.until(lambda: len(receiver.taken()) == 1)
            assert len({(one.headers["webhook-id"], one.body) for one in receiver.requests}) == 1
            publish(made, 1, revision=2)  # says nothing new
            outlet = Publisher(made, Codec())
            outlet.publish("findings", "f" * 32, finding(1, finding_id="f" * 32))
            outlet.flush()
            receiver.until(lambda: len(dead_letters(made, "pages")) == 1)
            assert "redirects are not followed" in dead_letters(made, "pages")[0].reason
            outlet.publish("findings", "e" * 32, finding(1, finding_id="e" * 32))
            outlet.flush()
            receiver.until(lambda: len(receiver.taken()) == 2)


@pytest.mark.long
@pytest.mark.slow
def test_a_notifier_killed_in_the_middle_sends_the_same_message_again(settings: Settings, tmp_path: Path) -> None:
    """It is killed while the receiver has the request and has not answered; more findings come before it is back."""
    with receiving(lambda number: "hang" if number < 1 else 204) as receiver:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")} | {
            "DRIFTLINE_DATA_DIR": str(settings.data_dir),
            "DRIFTLINE_KAFKA__BOOTSTRAP": settings.bootstrap,
            "DRIFTLINE_KAFKA__PREFIX": settings.kafka.prefix,
            "DRIFTLINE_KAFKA__PARTITIONS": "2",
            "DRIFTLINE_TELEMETRY__PORT_BASE": str(free_ports(1)[0]),
            "DRIFTLINE_NOTIFIER__WEBHOOKS": json.dumps([{"name": "soc", "url": receiver.url, "secret": SECRET}]),
            "DRIFTLINE_NOTIFIER__GROUP_SECONDS": "0.5",
            "DRIFTLINE_NOTIFIER__TIMEOUT": "20",
        }
        command, log = [sys.executable, "-m", "infra.app.cli", "run", "notifier"], tmp_path / "notifier.log"
        publish_more(settings, 0)
        for life in range(2):
            with log.open("ab") as words:
                process = subprocess.Popen(command, env=environment, stdout=words, stderr=words)
            try:
                receiver.until(lambda life=life: len(receiver.requests) > life, 60)  # type: ignore[misc]
                if life == 0:
                    publish_more(settings, 1)  # the step goes on while the receiver hangs: more pages wait behind the group
                    receiver.until(lambda: len(whole(settings, "pages")) == 40, 60)
                    assert len(receiver.requests) == 1
                else:
                    receiver.until(lambda: told(receiver.taken()) == 40, 60)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()
        first, second = receiver.requests[:2]
        assert first.headers["webhook-id"] == second.headers["webhook-id"]
        assert first.body == second.body
        assert first.data["count"] <= 20
        assert told(receiver.requests) == 40
        assert all(map(is_signed, receiver.requests))
        assert len(whole(settings, "findings.ocsf")) == 40
        assert SECRET not in log.read_text()


def publish_more(settings: Settings, life: int) -> None:
    """Twenty findings that no earlier life had."""
    outlet = Publisher(settings, Codec())
    for number in range(20):
        event = finding(1, finding_id=f"{life * 100 + number:032x}")
        outlet.publish("findings", event.finding_id, event)
    outlet.flush()
