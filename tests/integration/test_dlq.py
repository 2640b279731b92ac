"""Dead letters: bad records are listed with the reason and replayed byte for byte, each once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Message, Producer, TopicPartition

from infra.app.supervisor import FUSE_EXIT
from infra.core.errors import BadInput
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import consumer_config, producer_config, read_whole, transactional_producer, value_of
from infra.kafka.deadletters import dead_letter
from infra.kafka.deadreading import Policy, dead_letters, replay
from infra.kafka.topics import TopicAdmin
from schemas.codec import Codec
from schemas.events.targets import TargetRequest
from schemas.examples import EXAMPLES
from tests.ports import free_ports

pytestmark = pytest.mark.kafka


def whole(settings: Settings, topic: str) -> list[Message]:
    found: list[Message] = []
    read_whole(settings, topic, found.append)
    return found


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    """Three records of `targets` were set aside, in a transaction as a role does it."""
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=f"dlq{uuid4().hex[:8]}.", partitions=2))
    TopicAdmin(made).apply()
    plain = Producer(producer_config(made))
    for number, value in enumerate((b"\xff\xfe\x00", b"{]", b"\x1b[31m")):
        plain.produce(f"{made.kafka.prefix}targets", value, f"k{number}".encode(), number % 2)
    plain.flush(30.0)
    role = transactional_producer(made, "planner")
    role.begin_transaction()
    for message in whole(made, "targets"):
        dead_letter(role, made, message, "targets", ValueError("not \x1b[31m a target"))
    role.commit_transaction(30.0)
    return made


def test_letters_tell_where_and_why(settings: Settings) -> None:
    letters = dead_letters(settings, "targets")
    assert sorted(one.value for one in letters) == sorted([b"\xff\xfe\x00", b"{]", b"\x1b[31m"])
    assert {one.error for one in letters} == {"ValueError"}
    assert {one.reason for one in letters} == {"not \x1b[31m a target"}
    assert {one.source for one in letters} == {"targets:0:0", "targets:0:1", "targets:1:0"}
    assert [one.reference for one in dead_letters(settings)] == [one.reference for one in letters]
    assert len(dead_letters(settings, limit=2)) == 2


def test_replay_puts_each_back_once_and_within_the_limit(settings: Settings) -> None:
    begun = time.monotonic()
    assert replay(settings, "targets", 2) == (2, 0)
    assert replay(settings, "targets", 10) == (1, 0)
    assert replay(settings, "targets", 10) == (0, 0)
    assert time.monotonic() - begun < 60
    values = sorted(value_of(one) or b"" for one in whole(settings, "targets"))
    assert values == sorted([b"\xff\xfe\x00", b"{]", b"\x1b[31m"] * 2)
    assert {(one.key(), one.partition()) for one in whole(settings, "targets")} == {(b"k0", 0), (b"k1", 1), (b"k2", 0)}


def test_a_policy_passes_letters_over_for_good(settings: Settings) -> None:
    role = transactional_producer(settings, "planner")
    good = Codec().encode("targets", TargetRequest(request_id="r", targets=("198.18.0.7",), requested_by="test"))
    plain = Producer(producer_config(settings))
    plain.produce(f"{settings.kafka.prefix}targets", good, b"good", 0)
    plain.flush(30.0)
    role.begin_transaction()
    for message in whole(settings, "targets"):
        if message.key() == b"good":
            dead_letter(role, settings, message, "targets", ValueError("a release that did not know it"))
    role.commit_transaction(30.0)
    before = len(whole(settings, "targets"))
    assert replay(settings, "targets", 10, Policy.READABLE) == (1, 3)
    assert len(whole(settings, "targets")) == before + 1
    assert [value_of(one) for one in whole(settings, "targets")].count(good) == 2
    assert replay(settings, "targets", 10) == (0, 0)
    assert len(dead_letters(settings, "targets")) == 4, "they can still be read"


def test_discarded_letters_go_nowhere(settings: Settings) -> None:
    before = len(whole(settings, "targets"))
    assert replay(settings, "targets", 2, Policy.DISCARD) == (0, 2)
    assert replay(settings, "targets", 10) == (1, 0)
    assert len(whole(settings, "targets")) == before + 1


def test_two_replays_at_once_put_nothing_back_twice(settings: Settings) -> None:
    counts: list[int] = []

    def run() -> None:
        try:
            counts.append(replay(settings, "targets", 10).back)
        except Exception:  # noqa: BLE001  the fenced one of the two
            counts.append(0)

    threads = [threading.Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
    replay(settings, "targets", 10)
    assert len(whole(settings, "targets")) == 6


def test_a_topic_without_a_queue_is_bad_input(settings: Settings) -> None:
    with pytest.raises(BadInput, match="no DLQ"):
        replay(settings, "state.assessor", 1)
    with pytest.raises(BadInput, match="no DLQ"):
        dead_letters(settings, "nonsense")


def test_a_storm_of_bad_records_ends_the_role_with_its_own_exit_code(settings: Settings) -> None:
    """The whole role as a process. Of every kind of bad record each byte is kept."""
    kinds = (b"\xff\xfe no text", b"", b"\0\x7f\0\0\x01of a schema that is not written yet", os.urandom(2 << 20), b"{}")
    plain, codec = Producer(producer_config(settings)), Codec()
    bad = [kinds[number % len(kinds)] for number in range(60)]
    for number, value in enumerate(bad):
        plain.produce(f"{settings.kafka.prefix}probes", value, b"\xc3\x28" if number % 2 else b"k", 0)
        plain.poll(0)
    plain.produce(
        f"{settings.kafka.prefix}probes", codec.encode("probes", next(event for topic, event in EXAMPLES if topic == "probes")), b"k", 0
    )
    assert plain.flush(60) == 0
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")} | {
        "DRIFTLINE_DATA_DIR": str(settings.data_dir),
        "DRIFTLINE_KAFKA__BOOTSTRAP": settings.bootstrap,
        "DRIFTLINE_KAFKA__PREFIX": settings.kafka.prefix,
        "DRIFTLINE_KAFKA__PARTITIONS": "2",
        "DRIFTLINE_TELEMETRY__PORT_BASE": str(free_ports(1)[0]),
    }
    command = [sys.executable, "-m", "infra.app.cli", "run", "differ"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == FUSE_EXIT, done.stderr[-2000:]
    assert "it stopped" in done.stderr
    assert "driftline dlq list" in done.stderr
    letters = whole(settings, "dlq.probes")
    asker = Consumer(consumer_config(settings, "differ"))
    (stands,) = asker.committed([TopicPartition(f"{settings.kafka.prefix}probes", 0)], 10.0)
    asker.close()
    assert len(letters) >= 50, "it stopped before so many were bad"
    assert [value_of(one) or b"" for one in letters] == bad[: stands.offset], "what is behind the stop waits, and no letter is of it"
    assert [one.key() for one in letters][:2] == [b"k", b"\xc3\x28"]
