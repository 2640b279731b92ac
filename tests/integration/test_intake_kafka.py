"""Pushing lines through the real broker: everything arrives, once, and what could not be sent is said."""

from __future__ import annotations

import io
import uuid
from datetime import UTC, datetime
from pathlib import Path

import pytest
from confluent_kafka import Message

from infra.core.errors import MissingPrerequisite
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import Publisher, read_table, read_whole, value_of
from infra.kafka.topics import TopicAdmin
from producers.auditing import Actor
from producers.campaigns.running import CampaignForm, Office, create_campaign, list_campaigns
from producers.targets.pushing import PushOptions, push
from producers.targets.reading import bounded_lines
from schemas.codec import Codec
from schemas.events.targets import Cadence, CadenceKind, TargetRequest

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=f"t{uuid.uuid4().hex[:8]}.", partitions=3))
    TopicAdmin(made).apply()
    return made


def requests(settings: Settings) -> list[tuple[Message, TargetRequest]]:
    found: list[tuple[Message, TargetRequest]] = []

    def take(message: Message) -> None:
        event = Codec().decode("targets", value_of(message) or b"")
        assert isinstance(event, TargetRequest)
        found.append((message, event))

    read_whole(settings, "targets", take)
    return found


def test_every_line_arrives_once_spread_over_the_partitions(settings: Settings) -> None:
    lines = "".join(f"198.18.{number >> 8}.{number & 255}\n" if number % 100 else "not a target!\n" for number in range(20_000))
    publisher = Publisher(settings, Codec())
    report = push(bounded_lines(io.StringIO(lines)), publisher.publish, PushOptions(push_id="p", requested_by="alice"))
    publisher.flush()
    found = requests(settings)
    arrived = [target for _, event in found for target in event.targets]
    assert (report.accepted, report.rejected_total) == (19_800, 200)
    assert len(arrived) == len(set(arrived)) == 19_800
    assert {message.partition() for message, _ in found} == {0, 1, 2}
    assert {event.requested_by for _, event in found} == {"alice"}


def test_a_push_that_did_not_arrive_is_an_error(settings: Settings) -> None:
    elsewhere = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"prefix": "nobody.made.these."})})
    publisher = Publisher(elsewhere, Codec())
    push(["198.18.0.7"], publisher.publish, PushOptions(push_id="p"))
    with pytest.raises(MissingPrerequisite, match="not taken by Kafka"):
        publisher.flush(10)


def test_a_campaign_is_in_the_table_and_on_record(settings: Settings) -> None:
    publisher = Publisher(settings, Codec())
    office = Office(Actor("alice", "here"), settings.zones, {}, publisher.publish)
    made = create_campaign(CampaignForm("lab", ("198.18.0.0/24",), Cadence(kind=CadenceKind.ONCE)), office, datetime.now(UTC))
    publisher.flush()
    assert list_campaigns(read_table(settings, "campaigns")) == [made]
    audits: list[bytes | None] = []
    read_whole(settings, "audit", lambda message: audits.append(value_of(message)))
    assert len(audits) == 1
