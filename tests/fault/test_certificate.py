"""The same certificate on 40 hosts in 12 partitions is one finding with 40 places, though correlator and assessor are killed meanwhile.

Then all that may be forgotten is forgotten: who reads `findings` only now sees exactly what is open.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Message, TopicPartition
from confluent_kafka.admin import AdminClient

from consumers.assess.lifecycle import Assessor
from infra.core.ports import Context, FixedTables, MemoryState, Record
from infra.core.settings import KafkaSettings, Settings
from infra.kafka.client import Publisher, connection, consumer_config, end_of, read_table, read_whole, value_of
from infra.kafka.topics import TopicAdmin
from processors.correlate.correlating import Correlator
from schemas.codec import Codec
from schemas.events.assets import AssetChange, ChangeKind
from schemas.events.findings import Exposure, Finding, FindingStatus
from schemas.events.observations import Certificate, ServiceObservation, TlsFacts
from schemas.ids import asset_key, partition_of, subnet_key
from tests.ports import free_ports
from tests.sightings import START

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.timeout(400)]
HOSTS, PARTITIONS = 40, 12
FORGOTTEN = ("changes", "exposures")
EXPIRED = Certificate(
    sha256="ab" * 32,
    subject="CN=intranet.test",
    issuer="CN=a.test",
    names=("intranet.test",),
    not_before=START - timedelta(days=400),
    not_after=START - timedelta(days=30),
    key_type="rsa",
    key_bits=2048,
    signature_hash="sha256",
)
SERVED = ServiceObservation(port=443, service="https", tls=TlsFacts(version="TLSv1.3", certificate=EXPIRED))
Said = dict[str, tuple[str, str, frozenset[str]]]


def change(host: int, number: int, kind: ChangeKind) -> AssetChange:
    """Each host is in a subnet of its own."""
    gone = kind is ChangeKind.SERVICE_CLOSED
    return AssetChange(
        change_id=f"c{host}-{number}",
        kind=kind,
        zone="default",
        address=f"198.18.{host}.7",
        subnet=f"198.18.{host}.0/24",
        revision=number,
        port=443,
        before=SERVED if gone else None,
        after=None if gone else SERVED,
        summary="…",
        evidence_ids=("u1",),
        observed_at=START + timedelta(seconds=number),
    )


def log(part: int, parts: int) -> list[AssetChange]:
    """A part of what happens: all 40 open; some of them close, and one of those opens again."""
    found = [change(host, 1, ChangeKind.SERVICE_OPENED) for host in range(HOSTS)]
    found += [change(host, 2, ChangeKind.SERVICE_CLOSED) for host in range(0, HOSTS, 8)]
    found += [change(0, 3, ChangeKind.SERVICE_OPENED)]
    size = -(-len(found) // parts)
    return found[part * size : (part + 1) * size]


def said(findings: list[Finding]) -> Said:
    """What findings say, by id."""
    return {one.finding_id: (one.rule, one.status.value, frozenset(place.address for place in one.places)) for one in findings}


def folded() -> Said:
    """The log, folded without any engine."""
    correlator, assessor = Correlator(), Assessor(Settings())
    states, tables = [Context(0, 1, MemoryState(), FixedTables()) for _ in range(2)], dict[str, Finding]()
    for one in log(0, 1):
        for emit in correlator.handle(Record("changes", 0, 0, START, "", one), states[0]):
            assert isinstance(emit.event, Exposure)
            for told in assessor.handle(Record("exposures", 0, 0, START, "", emit.event), states[1]):
                assert isinstance(told.event, Finding)
                tables[told.key] = told.event
    return said(list(tables.values()))


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    """A prefix of its own on the shared broker, topics made."""
    made = Settings(data_dir=tmp_path, kafka=KafkaSettings(bootstrap=kafka, prefix=f"c{uuid4().hex[:8]}.", partitions=PARTITIONS))
    TopicAdmin(made).apply()
    return made


def started(settings: Settings, log_file: Path) -> subprocess.Popen[bytes]:
    """Correlator and assessor as a process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")} | {
        "DRIFTLINE_DATA_DIR": str(settings.data_dir),
        "DRIFTLINE_KAFKA__BOOTSTRAP": settings.bootstrap,
        "DRIFTLINE_KAFKA__PREFIX": settings.kafka.prefix,
        "DRIFTLINE_KAFKA__PARTITIONS": str(PARTITIONS),
        "DRIFTLINE_TELEMETRY__PORT_BASE": str(free_ports(1)[0]),
    }
    with log_file.open("ab") as words:
        return subprocess.Popen(
            [sys.executable, "-m", "infra.app.cli", "run", "correlator", "assessor"], env=environment, stdout=words, stderr=words
        )


def whole(settings: Settings, topic: str) -> list[Finding]:
    """Every revision on a topic, in order."""
    found, codec = list[Finding](), Codec()

    def take(message: Message) -> None:
        event = codec.decode(topic, value_of(message) or b"")
        assert isinstance(event, Finding)
        found.append(event)

    read_whole(settings, topic, take)
    return found


def until(condition: Callable[[], object], seconds: float = 90.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        time.sleep(0.1)


def standing(settings: Settings) -> Said:
    return said([one for one in read_table(settings, "findings").values() if isinstance(one, Finding)])


@pytest.mark.parametrize("kills", [1, pytest.param(5, marks=pytest.mark.long)])
def test_one_certificate_on_forty_hosts_is_one_finding(settings: Settings, tmp_path: Path, kills: int) -> None:
    assert len({partition_of(subnet_key("default", f"198.18.{host}.0/24"), PARTITIONS) for host in range(HOSTS)}) == PARTITIONS
    outlet, expected, seen = Publisher(settings, Codec()), folded(), 0
    for life in range(kills + 1):
        for one in log(life, kills + 1):
            outlet.publish("changes", asset_key("default", one.address), one, route=subnet_key("default", one.subnet))
        outlet.flush()
        process = started(settings, tmp_path / "roles.log")
        try:
            if life < kills:
                until(lambda seen=seen: len(whole(settings, "findings")) > seen)  # type: ignore[misc]
                seen = len(whole(settings, "findings"))
            else:
                until(lambda: standing(settings) == expected)
        finally:
            process.send_signal(signal.SIGKILL)
            process.wait()
    certificate = [
        one for one in read_table(settings, "findings").values() if isinstance(one, Finding) and one.rule == "certificate-expired"
    ]
    assert [(len(one.places), one.status) for one in certificate] == [(HOSTS - HOSTS // 8 + 1, FindingStatus.OPEN)]
    revisions = [(one.finding_id, one.revision) for one in whole(settings, "findings")]
    assert len(set(revisions)) == len(revisions), "no revision is told twice"
    forget(settings)
    assert standing(settings) == expected, "who comes after all retention sees what there is"


def forget(settings: Settings) -> None:
    """Let the time of the topics with a retention be over."""
    consumer, admin = Consumer(consumer_config(settings, "test-forget")), AdminClient(connection(settings))
    places = [TopicPartition(f"{settings.kafka.prefix}{topic}", number) for topic in FORGOTTEN for number in range(PARTITIONS)]
    ends = [TopicPartition(one.topic, one.partition, end_of(consumer, one, 20.0)) for one in places]
    for done in admin.delete_records(ends).values():
        done.result(30)
    consumer.close()
    assert not [one for one in (read_table(settings, topic) for topic in FORGOTTEN) if one]
