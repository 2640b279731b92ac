"""Readers that know nothing of Driftline: kcat, a plain clickhouse-connect, Confluent's own Avro deserialiser, while the pipeline runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import uuid
from typing import Any

import pytest
from confluent_kafka import Consumer
from confluent_kafka.schema_registry import SchemaRegistryClient
from confluent_kafka.schema_registry.avro import AvroDeserializer
from confluent_kafka.serialization import MessageField, SerializationContext

from tests.contract.ocsf_definitions import ARCHIVE, definitions
from tests.e2e.conftest import World

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.store,
    pytest.mark.namespace,
    pytest.mark.slow,
    pytest.mark.timeout(400),
]
KINDS = {2002: "vulnerability_finding", 2003: "compliance_finding", 2004: "detection_finding"}
READER = """
import json, sys, clickhouse_connect
client = clickhouse_connect.get_client(host="127.0.0.1", port=int(sys.argv[1]), database="driftline")
found = client.query("SELECT finding_id, risk, title FROM worst_first")
print(json.dumps([dict(zip(found.column_names, row)) for row in found.result_rows]))
"""


def from_kcat(world: World) -> list[dict[str, Any]]:
    """All of the topic, as `kcat` prints it."""
    if not shutil.which("kcat"):
        pytest.skip("kcat is not installed")
    command = ["kcat", "-b", world.pipeline.settings.bootstrap, "-C", "-t", "findings.ocsf", "-o", "beginning", "-e", "-q"]
    done = subprocess.run([*command, "-X", "isolation.level=read_committed"], capture_output=True, text=True, timeout=60, check=True)
    return [json.loads(line) for line in done.stdout.splitlines() if line]


def test_kcat_reads_every_finding_as_ocsf(world: World) -> None:
    events = from_kcat(world)
    assert {event["class_uid"] for event in events} <= set(KINDS)
    assert {row["finding_id"] for row in world.first.findings} <= {event["finding_info"]["uid"] for event in events}


def test_what_kcat_reads_is_valid_ocsf(world: World) -> None:
    if not ARCHIVE.exists():
        pytest.skip("the OCSF definitions are not on this machine")
    events = from_kcat(world)
    assert len(events) >= len(world.first.findings)
    assert [problem for event in events for problem in definitions().problems(event, KINDS[event["class_uid"]])] == []
    assert {event["metadata"]["version"] for event in events} == {"1.6.0"}


def test_another_process_reads_the_findings_with_plain_clickhouse_connect(world: World) -> None:
    port = str(world.pipeline.settings.store.port)
    plain = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")}
    done = subprocess.run([sys.executable, "-c", READER, port], env=plain, capture_output=True, text=True, timeout=60, check=True)
    read = json.loads(done.stdout)
    assert read == world.pipeline.rows("SELECT finding_id, risk, title FROM worst_first")
    assert len(read) > 5


def test_an_unmodified_confluent_deserialiser_reads_the_findings(world: World) -> None:
    settings = world.pipeline.settings
    consumer = Consumer(
        {
            "bootstrap.servers": settings.bootstrap,
            "group.id": f"outside-{uuid.uuid4().hex}",
            "auto.offset.reset": "earliest",
            "enable.partition.eof": False,
        }
    )
    found: dict[str, Any] = {}
    consumer.subscribe(["findings"])
    wanted = {row["finding_id"]: row["title"] for row in world.first.findings}

    def all_read(decode: AvroDeserializer) -> bool:
        for message in consumer.consume(500, 1.0):
            finding = decode(message.value(), SerializationContext("findings", MessageField.VALUE))
            assert isinstance(finding, dict)
            found[finding["finding_id"]] = finding
        return wanted.keys() <= found.keys()

    with SchemaRegistryClient({"url": f"http://127.0.0.1:{settings.store.port}"}) as registry:
        decode = AvroDeserializer(registry)
        try:
            world.pipeline.until(lambda: all_read(decode), 60, "every finding from the topic")
        finally:
            consumer.close()
        assert "findings-value" in registry.get_subjects()
    assert {name: found[name]["title"] for name in wanted} == wanted
