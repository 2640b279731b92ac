"""What the embedded Kafka is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from infra.core.errors import MissingPrerequisite
from infra.local.broker_config import BrokerPlan, Quorum, Runtime, java_command, server_properties
from infra.local.broker_storage import require_readable
from infra.local.broker_wait import require_space
from infra.local.jars import KAFKA_VERSION
from infra.local.java import Java


def runtime(java: str = "25.0.2", aot_cache: Path | None = None) -> Runtime:
    return Runtime(Java(Path("/java"), java), (Path("/a.jar"), Path("/b.jar")), aot_cache)


def plan(folder: Path = Path("/data/kafka")) -> BrokerPlan:
    return BrokerPlan(folder, folder / "logs", 5001, 5002, 300)


def properties() -> dict[str, str]:
    return dict(line.split("=", 1) for line in server_properties(plan()).splitlines())


def test_every_listener_is_on_loopback_at_the_ports_that_are_set() -> None:
    assert properties()["listeners"] == "PLAINTEXT://127.0.0.1:5001,CONTROLLER://127.0.0.1:5002"
    assert properties()["advertised.listeners"] == "PLAINTEXT://127.0.0.1:5001"
    assert properties()["controller.quorum.voters"] == "1@127.0.0.1:5002"


def test_one_node_can_hold_offsets_and_transactions() -> None:
    factors = {name: value for name, value in properties().items() if name.endswith(("replication.factor", "min.isr"))}
    assert len(factors) == 5
    assert set(factors.values()) == {"1"}


def test_the_heap_is_capped_as_set() -> None:
    assert "-Xmx300m" in java_command(runtime(), plan(), "kafka.Kafka")


def test_an_older_java_gets_no_flag_that_it_does_not_know() -> None:
    old = " ".join(java_command(runtime("17.0.9"), plan(), "kafka.Kafka"))
    assert "AOT" not in old
    assert "sun-misc" not in old


def test_a_cache_is_used_when_there_is_one() -> None:
    assert "-XX:AOTCache=/c.aot" in java_command(runtime(aot_cache=Path("/c.aot")), plan(), "kafka.Kafka")


@pytest.mark.parametrize("version", ["4.4.0", "5.0.0", "4.10.1"])
def test_storage_of_a_newer_kafka_is_refused(version: str) -> None:
    with pytest.raises(MissingPrerequisite, match=rf"formatted by Kafka {version}.*DRIFTLINE_DATA_DIR"):
        require_readable(plan(), version)


@pytest.mark.parametrize("version", [KAFKA_VERSION, "4.3.9", "4.0.0", "3.9.1"])
def test_storage_of_the_same_or_an_older_kafka_is_read(version: str) -> None:
    require_readable(plan(), version)


def test_a_full_disk_is_said(tmp_path: Path) -> None:
    require_space(plan(tmp_path), needed_mb=1)
    with pytest.raises(MissingPrerequisite, match=r"disk is full.*DRIFTLINE_DATA_DIR"):
        require_space(plan(tmp_path), needed_mb=1 << 40)


def test_one_of_three_nodes_keeps_three_copies_of_which_two_must_be_there() -> None:
    three = replace(plan(), quorum=Quorum(2, (6001, 5002, 6003), "cluster"))
    said = dict(line.split("=", 1) for line in server_properties(three).splitlines())
    assert said["node.id"] == "2"
    assert said["controller.quorum.voters"] == "1@127.0.0.1:6001,2@127.0.0.1:5002,3@127.0.0.1:6003"
    assert {value for name, value in said.items() if name.endswith("replication.factor")} == {"3"}
    assert {value for name, value in said.items() if name.endswith("min.isr")} == {"2"}
