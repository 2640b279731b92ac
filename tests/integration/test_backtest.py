"""`driftline backtest` over real topics: it tells what differs, and writes nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.assess.ranking import rank_of
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import Publisher, connection, consumer_config, end_of
from infra.kafka.topics import TopicAdmin
from processors.correlate.correlating import Correlator
from schemas.codec import Codec
from schemas.events.assets import ChangeKind
from schemas.events.findings import Decision, DecisionKind, Finding, FindingStatus
from schemas.events.observations import ServiceObservation
from schemas.ids import decision_key, subnet_key
from tests.correlating import START
from tests.correlating import Bench as CorrelatorBench
from tests.unit.test_correlating import REDIS

pytestmark = pytest.mark.kafka
RULES = """
from processors.correlate.contract import Judgement, Rule

RULES = [
    Rule(name, "t", "", lambda f, word=word, base=base: Judgement(word, "", "", base, 5, 90, "") if f.service.service == word else None)
    for name, word, base in (("redis-without-password", "redis", 10), ("any-ssh", "ssh", 50))
]
"""


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    """A Redis without a password, Telnet, and SSH, each told as a change; what the rules in force raised of them; labels."""
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=f"b{uuid4().hex[:8]}.", partitions=2))
    TopicAdmin(made).apply()
    outlet, bench = Publisher(made, Codec()), CorrelatorBench(Correlator())
    seen = (REDIS, ServiceObservation(port=23, service="telnet"), ServiceObservation(port=22, service="ssh"))
    for number, one in enumerate(seen):
        change = bench.made(ChangeKind.SERVICE_OPENED, one, number)
        outlet.publish("changes", f"{change.zone}|{change.address}", change, route=subnet_key(change.zone, change.subnet))
        for exposure in bench.feed("changes", change):
            fields = {name: getattr(exposure, name) for name in Finding.model_fields if name in type(exposure).model_fields}
            finding = Finding(
                **{**fields, "revision": 1, "status": FindingStatus.OPEN, "zone": exposure.place.zone, "places": (exposure.place,)},
                risk=exposure.base_risk,
                rank=rank_of(exposure.base_risk),
                rationale="",
                first_seen=START,
                changed_at=START,
            )
            outlet.publish("findings", finding.finding_id, finding)
            label(outlet, finding)
    outlet.flush()
    return made


def label(outlet: Publisher, finding: Finding) -> None:
    kind = {"redis-without-password": DecisionKind.TRUE_POSITIVE, "plaintext-login": DecisionKind.FALSE_POSITIVE}.get(finding.rule)
    if kind is not None:
        word = Decision(decision_id=finding.rule, finding_id=finding.finding_id, kind=kind, decided_by="ana", decided_at=START)
        outlet.publish("decisions", decision_key(word), word)


def ends(settings: Settings) -> dict[tuple[str, int], int]:
    """Where every topic of this installation ends."""
    consumer = Consumer(consumer_config(settings, "test-ends"))
    topics = consumer.list_topics(timeout=20).topics
    places = [
        TopicPartition(name, number) for name, one in topics.items() if name.startswith(settings.kafka.prefix) for number in one.partitions
    ]
    found = {(one.topic, one.partition): end_of(consumer, one, 20.0) for one in places}
    consumer.close()
    return found


def backtest(settings: Settings, *arguments: str) -> Any:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")} | {
        "DRIFTLINE_DATA_DIR": str(settings.data_dir),
        "DRIFTLINE_KAFKA__BOOTSTRAP": settings.bootstrap,
        "DRIFTLINE_KAFKA__PREFIX": settings.kafka.prefix,
        "DRIFTLINE_KAFKA__PARTITIONS": "2",
    }
    command = [sys.executable, "-m", "infra.app.cli", "backtest", *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout) if "--json" in arguments else done.stdout + done.stderr


def test_the_rules_in_force_raise_what_was_raised_and_nothing_is_written(settings: Settings) -> None:
    before = ends(settings)
    groups = {one.group_id for one in AdminClient(connection(settings)).list_consumer_groups().result().valid}
    found = backtest(settings, "--json")
    assert (found["new"], found["gone"], found["moved"]) == (0, 0, 0)
    assert sum(one["raised"] for one in found["rules"]) > 2
    assert found["changes"] == 3
    assert ends(settings) == before
    after = {one.group_id for one in AdminClient(connection(settings)).list_consumer_groups().result().valid}
    assert not {one for one in after - groups if one.startswith(settings.kafka.prefix) and not one.endswith("test-ends")}


def test_other_rules_say_what_is_new_gone_and_moved_with_precision_from_labels(settings: Settings, tmp_path: Path) -> None:
    file = tmp_path / "rules.py"
    file.write_text(RULES)
    found = backtest(settings, "--rules", str(file), "--json")
    by_rule = {one["rule"]: one for one in found["rules"]}
    redis, ssh, telnet = by_rule["redis-without-password"], by_rule["any-ssh"], by_rule["plaintext-login"]
    assert (redis["raised"], redis["would_raise"], redis["moved"], redis["precision_after"]) == (1, 1, 1, 1.0)
    assert (ssh["raised"], ssh["new"]) == (0, 1)
    assert (telnet["gone"], telnet["precision_before"], telnet["precision_after"]) == (1, 0.0, None)
    shown = backtest(settings, "--without", "plaintext-login")
    assert "plaintext-login" in shown
    assert "0 new" in shown
