"""The topic table on a real Kafka."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka.admin import AdminClient

from infra.core.errors import BadInput, MissingPrerequisite
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import connection
from infra.kafka.topics import TopicAdmin, wanted_topics
from tests.ports import free_ports

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    prefix = f"topics{uuid4().hex[:8]}."
    return Settings(data_dir=tmp_path, zones=("default", "dmz"), kafka=KafkaSettings(bootstrap=kafka, prefix=prefix, partitions=2))


def test_apply_makes_the_whole_table_and_a_second_time_nothing(settings: Settings) -> None:
    admin = TopicAdmin(settings)
    planned = admin.plan()
    assert admin.apply() == planned
    assert TopicAdmin(settings).apply() == []
    there = AdminClient(connection(settings)).list_topics(timeout=15).topics
    for one in wanted_topics(settings):
        assert len(there[one.name].partitions) == one.partitions
    assert f"{settings.kafka.prefix}work.dmz" in there
    assert f"{settings.kafka.prefix}dlq.work.dmz" in there


def test_what_someone_deleted_or_another_zone_needs_is_made_again(settings: Settings) -> None:
    TopicAdmin(settings).apply()
    more = settings.model_copy(update={"zones": (*settings.zones, "lab")})
    assert {one.name.removeprefix(settings.kafka.prefix) for one in TopicAdmin(more).apply()} == {"work.lab", "dlq.work.lab"}


def test_other_partitions_are_refused_because_keys_would_move(settings: Settings) -> None:
    TopicAdmin(settings).apply()
    other = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"partitions": 3})})
    with pytest.raises(BadInput, match="keys would move"):
        TopicAdmin(other).plan()


def test_more_copies_than_brokers_is_bad_input_that_names_the_setting(settings: Settings) -> None:
    wide = settings.model_copy(update={"kafka": settings.kafka.model_copy(update={"replication": 3})})
    with pytest.raises(BadInput, match="DRIFTLINE_KAFKA__REPLICATION"):
        TopicAdmin(wide).apply()


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_a_missing_prerequisite(tmp_path: Path) -> None:
    (port,) = free_ports(1)
    with pytest.raises(MissingPrerequisite, match="does not answer"):
        TopicAdmin(Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=f"127.0.0.1:{port}"))).plan()


@pytest.mark.parametrize(
    ("settings", "needed"), [({}, 1), ({"replication": 2}, 1), ({"replication": 3}, 2), ({"replication": 3, "min_insync": 3}, 3)]
)
def test_all_copies_but_one_must_hold_a_record_unless_set_otherwise(settings: dict[str, int], needed: int) -> None:
    wanted = wanted_topics(Settings(kafka=KafkaSettings(**settings)))
    assert {one.config["min.insync.replicas"] for one in wanted} == {str(needed)}


def test_more_copies_needed_than_there_are_is_refused() -> None:
    with pytest.raises(ValueError, match="min_insync must be at most replication"):
        KafkaSettings(replication=2, min_insync=3)
