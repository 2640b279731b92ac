"""The role `intel` as a whole, and the table that keeps bytes, on a real Kafka."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from confluent_kafka import Producer

from infra.core.settings import IntelSettings, KafkaSettings, Settings
from infra.core.telemetry import TELEMETRY
from infra.kafka.client import Publisher, prefixed, producer_config
from infra.kafka.globaltables import GlobalTables
from infra.kafka.topics import TopicAdmin
from producers.intel import role
from schemas.codec import Codec
from schemas.events.intel import IntelRecord
from schemas.examples import AT
from tests.archiving import until
from tests.feeds import HTTPD, epss, kev

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(kafka: str, tmp_path: Path) -> Settings:
    made = Settings(data_dir=tmp_path / "data", kafka=KafkaSettings(bootstrap=kafka, prefix=f"feeds{uuid4().hex[:8]}.", partitions=2))
    made.data_dir.mkdir()
    TopicAdmin(made).apply()
    return made


@contextmanager
def running(settings: Settings) -> Iterator[None]:
    stop, ready = threading.Event(), threading.Event()
    thread = threading.Thread(target=role.run, args=(settings, stop, ready.set))
    thread.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        stop.set()
        thread.join(30)
        assert not thread.is_alive()


def tables_of(settings: Settings) -> GlobalTables:
    tables = GlobalTables(settings, ("intel",), Codec(), ("intel",))
    tables.load()
    return tables


def test_it_syncs_what_is_switched_on_and_tells_of_what_is_wrong(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "kev.json").write_bytes(kev([HTTPD]))
    (tmp_path / "epss.csv").write_bytes(epss({HTTPD: 0.5})[:-1])
    feeds = IntelSettings(feeds=("kev", "epss"), kev=str(tmp_path / "kev.json"), epss=str(tmp_path / "epss.csv"))
    tables = tables_of(settings)
    with running(settings.model_copy(update={"intel": feeds})):
        until(lambda: tables.poll() is not None and HTTPD in tables.table("intel"), "the record", 60)
        until(lambda: "was cut" in TELEMETRY.errors.get("intel", ""), "the error")
    record = tables.table("intel")[HTTPD]
    assert isinstance(record, IntelRecord)
    assert (record.kev, record.epss) == (True, None)
    assert TELEMETRY.feeds.labels("kev")._value.get() == record.as_of.timestamp()
    tables.close()


def test_with_no_feed_it_is_ready_and_a_process_that_has_it_imports_no_reader(settings: Settings) -> None:
    with running(settings):
        assert "intel" in TELEMETRY.ready
    code = """
import sys, threading
from infra.core.settings import Settings
from producers.intel import role
stop = threading.Event()
role.run(Settings(), stop, stop.set)
print(sorted(one for one in sys.modules if one == "httpx" or one.startswith(("producers.intel.", "confluent_kafka"))))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['producers.intel.role']"


def test_the_table_keeps_bytes_and_gives_events(settings: Settings) -> None:
    codec = Codec()
    publisher = Publisher(settings, codec)
    for number in range(3):
        publisher.publish("intel", f"CVE-2026-000{number}", IntelRecord(cve=f"CVE-2026-000{number}", epss=number / 10, as_of=AT))
    publisher.publish("intel", "CVE-2026-0001", None)
    publisher.flush()
    tables = tables_of(settings)
    table = tables.table("intel")
    assert set(table) == {"CVE-2026-0000", "CVE-2026-0002"}
    assert len(table) == 2
    assert "CVE-2026-0001" not in table
    assert table["CVE-2026-0002"] == IntelRecord(cve="CVE-2026-0002", epss=0.2, as_of=AT)
    assert all(one.event is None and (one.raw or one.key.endswith("1")) for one in tables.news("intel", 0))
    assert [one.event is None for one in tables.since("intel", 0)] == [False, False, False, True]
    rubbish = Producer(producer_config(settings))
    rubbish.produce(prefixed(settings, "intel"), json.dumps({}).encode(), b"CVE-2026-0002", 0)
    rubbish.flush()
    until(lambda: tables.poll() is not None and tables.next_offset("intel") == 5, "the rubbish")
    assert isinstance(table["CVE-2026-0002"], IntelRecord), "what can't be decoded replaces nothing"
    assert len(list(tables.since("intel", 0))) == 4
    tables.close()
