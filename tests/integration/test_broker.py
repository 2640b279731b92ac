"""The embedded Kafka, as it really runs: it starts, keeps what it was given through kill -9, and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.core.errors import MissingPrerequisite, Refused
from infra.core.settings import Settings
from infra.local.broker import Broker
from tests.brokers import broker_settings

pytestmark = pytest.mark.kafka


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return broker_settings(tmp_path)


@pytest.fixture
def broker(settings: Settings) -> Iterator[Broker]:
    broker = Broker(settings)
    yield broker
    broker.stop()


def client(bootstrap: str, **more: object) -> dict[str, object]:
    # Refused connections are expected while the broker is down: log_level 0 keeps librdkafka from writing each.
    return {"bootstrap.servers": bootstrap, "log_level": 0} | {name.replace("_", "."): value for name, value in more.items()}


def create_topic(bootstrap: str, name: str) -> None:
    admin = AdminClient({"bootstrap.servers": bootstrap})
    for future in admin.create_topics([NewTopic(name, 1, 1)]).values():
        future.result(20)


def produce(bootstrap: str, values: list[bytes], transaction: str | None = None, commit: bool = True) -> None:
    more = {"transactional_id": transaction} if transaction else {}
    producer = Producer(client(bootstrap, acks="all", enable_idempotence=True, **more))
    if transaction:
        producer.init_transactions(20)
        producer.begin_transaction()
    for value in values:
        producer.produce("kept", value)
    assert producer.flush(20) == 0
    if transaction:
        (producer.commit_transaction if commit else producer.abort_transaction)(20)


def consume(bootstrap: str, count: int) -> list[bytes]:
    """The first `count` committed values of the topic."""
    consumer = Consumer(client(bootstrap, group_id="reader", auto_offset_reset="earliest", isolation_level="read_committed"))
    consumer.subscribe(["kept"])
    values: list[bytes] = []
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        message = consumer.poll(0.2)
        if message is not None and not message.error():
            values.append(message.value() or b"")
    consumer.close()
    return values


def test_records_survive_kill_9_of_the_broker_and_a_clean_stop(broker: Broker) -> None:
    bootstrap = broker.start()
    create_topic(bootstrap, "kept")
    produce(bootstrap, [b"before %d" % n for n in range(500)])
    assert broker.pid is not None
    os.kill(broker.pid, signal.SIGKILL)
    deadline = time.monotonic() + 10
    while broker.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert broker.pid is None
    assert broker.start() == bootstrap
    produce(bootstrap, [b"after the kill"])
    broker.stop()
    broker.start()
    assert consume(bootstrap, 501) == [b"before %d" % n for n in range(500)] + [b"after the kill"]


def test_transactions_work_on_one_node(broker: Broker) -> None:
    bootstrap = broker.start()
    create_topic(bootstrap, "kept")
    produce(bootstrap, [b"aborted"], transaction="t", commit=False)
    produce(bootstrap, [b"committed"], transaction="t")
    assert consume(bootstrap, 1) == [b"committed"]


def test_it_listens_on_loopback_only_and_leaves_no_process_and_no_pid_file(broker: Broker, settings: Settings) -> None:
    broker.start()
    assert broker.pid is not None
    process = psutil.Process(broker.pid)
    listening = [one.laddr for one in process.net_connections("inet") if one.status == psutil.CONN_LISTEN]
    assert {(address.ip, address.port) for address in listening} == {
        ("127.0.0.1", settings.broker.port),
        ("127.0.0.1", settings.broker.controller_port),
    }
    broker.stop()
    assert not process.is_running()
    assert not (settings.data_dir / "kafka" / "broker.pid").exists()


def test_no_child_survives_kill_9_of_the_parent_and_the_next_start_works(broker: Broker, settings: Settings) -> None:
    ports = f"BrokerSettings(port={settings.broker.port}, controller_port={settings.broker.controller_port})"
    script = (
        "import time; from pathlib import Path; from infra.core.settings import *; from infra.local.broker import Broker;"
        f"broker = Broker(Settings(data_dir=Path({str(settings.data_dir)!r}), broker={ports})); broker.start();"
        "print(broker.pid, flush=True); time.sleep(120)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        pid = int(next(line for line in parent.stdout if line.strip().isdigit()))
        java = psutil.Process(pid)
        with pytest.raises(Refused, match="runs already"):
            broker.start()
        parent.kill()
    psutil.wait_procs([java], timeout=10)
    assert not java.is_running() or java.status() == psutil.STATUS_ZOMBIE
    broker.start()


@pytest.mark.parametrize(
    ("which", "setting"), [("port", "DRIFTLINE_BROKER__PORT"), ("controller_port", "DRIFTLINE_BROKER__CONTROLLER_PORT")]
)
def test_a_port_in_use_is_said_with_the_setting_that_changes_it(broker: Broker, settings: Settings, which: str, setting: str) -> None:
    with socket.create_server(("127.0.0.1", getattr(settings.broker, which))), pytest.raises(MissingPrerequisite, match=setting):
        broker.start()


def test_a_folder_that_can_not_be_used_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    settings = broker_settings(tmp_path / "file")
    with pytest.raises(MissingPrerequisite, match=r"can't use its folder.*DRIFTLINE_DATA_DIR"):
        Broker(settings).start()


def test_storage_of_a_newer_kafka_is_refused_before_it_is_touched(broker: Broker, settings: Settings) -> None:
    (settings.data_dir / "kafka").mkdir()
    (settings.data_dir / "kafka" / "kafka-version").write_text("9.9.9\n")
    with pytest.raises(MissingPrerequisite, match=r"formatted by Kafka 9\.9\.9"):
        broker.start()
    assert not (settings.data_dir / "kafka" / "data").exists()


def test_the_reason_of_a_failed_start_is_given(broker: Broker, settings: Settings) -> None:
    broker.start()
    broker.stop()
    meta = settings.data_dir / "kafka" / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(Exception, match=r"Kafka ended while it started: .*node"):
        broker.start()
    assert broker.pid is None
