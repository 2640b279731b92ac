"""Three real Kafka brokers on this machine, one cluster: each a node of the KRaft quorum, that can be killed and come back."""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.core.settings import BrokerSettings, KafkaSettings, Settings
from infra.local.broker import prepare
from infra.local.broker_config import BrokerPlan, Quorum, Runtime, java_command, write_files
from infra.local.broker_owner import java_environment
from infra.local.broker_storage import format_storage
from infra.local.broker_wait import wait_until_ready
from infra.local.child import Child
from tests.ports import free_ports

NODES = 3
HEAP_MB = 256
START_SECONDS = 90.0  # on a machine that does other things too


@dataclass(slots=True)
class Node:
    """One broker of the cluster."""

    plan: BrokerPlan
    runtime: Runtime
    child: Child | None = field(default=None, repr=False)

    def launch(self) -> None:
        """Start it, again or for the first time, without waiting."""
        write_files(self.plan)
        format_storage(self.runtime, self.plan)
        command = java_command(self.runtime, self.plan, "kafka.Kafka", self.plan.properties_file)
        self.child = Child(command, self.plan.console_file, java_environment())

    def await_ready(self) -> None:
        """Wait until it answers. Raises DriftlineError if it ends or takes too long."""
        assert self.child is not None
        wait_until_ready(self.child, self.plan, START_SECONDS)

    def kill(self) -> None:
        """SIGKILL."""
        assert self.child is not None
        self.child.kill()


@dataclass(frozen=True, slots=True)
class Cluster:
    """The nodes, and settings for clients that keep three copies of each record, two of which must be there."""

    nodes: tuple[Node, ...]
    settings: Settings


@contextmanager
def running_cluster(folder: Path, partitions: int) -> Iterator[Cluster]:
    """Three brokers that answer; at the end those that still run are killed."""
    runtime = prepare(Settings(data_dir=folder, broker=BrokerSettings()))
    ports = free_ports(2 * NODES)
    cluster_id = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
    nodes = []
    for number in range(NODES):
        place = folder / f"node{number + 1}"
        quorum = Quorum(number + 1, tuple(ports[NODES:]), cluster_id)
        nodes.append(Node(BrokerPlan(place, place / "logs", ports[number], ports[NODES + number], HEAP_MB, quorum=quorum), runtime))
    kafka = KafkaSettings(bootstrap=",".join(one.plan.bootstrap for one in nodes), partitions=partitions, replication=3, min_insync=2)
    try:
        for one in nodes:
            one.launch()
        for one in nodes:
            one.await_ready()
        yield Cluster(tuple(nodes), Settings(data_dir=folder, kafka=kafka))
    finally:
        for one in nodes:
            if one.child is not None:
                one.child.kill()
