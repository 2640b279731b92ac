"""Makes the topics of the table on a cluster, and says what it would change."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import AlterConfigOpType, ConfigEntry, ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from infra.core.errors import BadInput, DriftlineError, Refused
from infra.core.settings import Settings
from infra.kafka.client import MOST_BYTES, connection, prefixed, unreachable
from schemas.topics import DAY_MS, DLQ_RETENTION_MS, TOPICS, Topic, concrete_names

KNOWN_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class WantedTopic:
    """A topic as it should be on the cluster."""

    name: str
    partitions: int
    config: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class TopicChange:
    """One thing that `apply` does: create, grow, or set a config."""

    name: str
    action: str


def wanted_topics(settings: Settings) -> list[WantedTopic]:
    """The table as concrete topics with prefix, a DLQ beside each that is read record by record."""
    found = []
    for topic in TOPICS:
        for name in concrete_names(topic, settings.zones):
            partitions = topic.partitions(settings.kafka.partitions)
            safe = {"min.insync.replicas": str(settings.kafka.copies_needed)}
            found.append(WantedTopic(prefixed(settings, name), partitions, _config(topic) | safe))
            if not name.startswith("state."):
                config = {"cleanup.policy": "delete", "retention.ms": str(DLQ_RETENTION_MS), "message.timestamp.type": "LogAppendTime"}
                config["max.message.bytes"] = str(MOST_BYTES + 131_072)  # the largest bad record beside its headers
                found.append(WantedTopic(prefixed(settings, f"dlq.{name}"), partitions, config | safe))
    return found


def _config(topic: Topic) -> dict[str, str]:
    config = {"cleanup.policy": topic.cleanup, "message.timestamp.type": "LogAppendTime"}
    if topic.retention_ms is not None:
        config["retention.ms"] = str(topic.retention_ms)
    if topic.retention_ms == DAY_MS:
        config["segment.ms"] = "3600000"  # only whole segments are deleted: of a week's, a late worker would read a week of ticks
    if "compact" in topic.cleanup:
        config |= {
            "min.cleanable.dirty.ratio": "0.2",
            "segment.ms": "3600000",
            "segment.bytes": "67108864",
            "max.compaction.lag.ms": "86400000",
            "delete.retention.ms": str(7 * DAY_MS),  # a worker that was away must still see that a key was deleted
        }
    return config


class TopicAdmin:
    """Compares the wanted topics with a cluster and closes the difference. Never deletes, never lowers a partition count."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._admin = AdminClient(connection(settings))

    def plan(self) -> list[TopicChange]:
        """What `apply` would do. Raises BadInput if a topic has more partitions than wanted (keys would move)."""
        existing = self._existing()
        configs = self._configs([one.name for one in wanted_topics(self._settings) if one.name in existing])
        changes = []
        for one in wanted_topics(self._settings):
            if one.name not in existing:
                changes.append(TopicChange(one.name, f"create with {one.partitions} partitions, {one.config['cleanup.policy']}"))
                continue
            if existing[one.name] != one.partitions:
                raise BadInput(
                    f"The topic {one.name} has {existing[one.name]} partitions, the settings want {one.partitions}: keys would move.",
                    "Set DRIFTLINE_KAFKA__PARTITIONS to what is there, or use another DRIFTLINE_KAFKA__PREFIX.",
                )
            changes += [
                TopicChange(one.name, f"set {key} from {configs[one.name].get(key, '')} to {value}")
                for key, value in one.config.items()
                if configs[one.name].get(key, "") != value
            ]
        return changes

    def apply(self) -> list[TopicChange]:
        """Create and configure what is missing; a second call does nothing. Returns what was done."""
        changes = self.plan()
        wanted = {one.name: one for one in wanted_topics(self._settings)}
        create = [wanted[one.name] for one in changes if one.action.startswith("create")]
        if create:
            replication = self._settings.kafka.replication
            news = [NewTopic(one.name, one.partitions, replication, config=dict(one.config)) for one in create]
            self._wait(self._admin.create_topics(news).values())
            self._await_known({one.name for one in create})
        resources = []
        for name in {one.name for one in changes if one.action.startswith("set")}:
            entries = [ConfigEntry(key, value, incremental_operation=AlterConfigOpType.SET) for key, value in wanted[name].config.items()]
            resources.append(ConfigResource(ResourceType.TOPIC, name, incremental_configs=entries))
        if resources:
            self._wait(self._admin.incremental_alter_configs(resources).values())
        return changes

    def _await_known(self, names: set[str]) -> None:
        """Wait until the broker tells of the new topics: it answers a moment before it does, and a role would find them missing."""
        deadline = time.monotonic() + KNOWN_SECONDS
        while names - self._existing().keys() and time.monotonic() < deadline:
            time.sleep(0.02)

    def _existing(self) -> dict[str, int]:
        try:
            return {name: len(topic.partitions) for name, topic in self._admin.list_topics(timeout=15.0).topics.items()}
        except KafkaException as error:
            raise unreachable(self._settings, error) from None

    def _configs(self, names: list[str]) -> dict[str, dict[str, str]]:
        if not names:
            return {}
        futures = self._admin.describe_configs([ConfigResource(ResourceType.TOPIC, name) for name in names])
        entries = zip(futures, self._wait(futures.values()), strict=True)
        return {str(resource.name): {key: str(entry.value) for key, entry in found.items()} for resource, found in entries}

    def _wait(self, futures: Iterable[Future[Any]]) -> list[Any]:
        """The results. A topic that another process has just made is as good as ours."""
        found = []
        for future in futures:
            try:
                found.append(future.result(60.0))
            except KafkaException as error:
                code = error.args[0].code()
                if code != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise _refused(self._settings, error) from None
        return found


def _refused(settings: Settings, error: KafkaException) -> DriftlineError:
    reason: KafkaError = error.args[0]
    if reason.code() < 0:  # librdkafka's own errors: the cluster did not answer
        return unreachable(settings, error)
    if reason.code() == KafkaError.INVALID_REPLICATION_FACTOR:
        fix = "Set DRIFTLINE_KAFKA__REPLICATION to at most the number of brokers."
        return BadInput(f"Kafka can't keep {settings.kafka.replication} copies of a topic: {reason.str()}.", fix)
    return Refused(f"Kafka refused to make the topics: {reason.str()}.", "Check the rights of this user on the cluster.")
