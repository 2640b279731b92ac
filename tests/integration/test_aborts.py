"""What comes after an aborted transaction is there, also where the abort purged a record that had arrived unanswered.

A real broker behind a gate in the test's hand: it can keep answers back, and hang up.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.core.settings import BrokerSettings, KafkaSettings, Settings
from infra.kafka.client import abort, insist, read_whole, transactional_producer, value_of
from infra.local.broker import prepare
from infra.local.broker_config import BrokerPlan, java_command, write_files
from infra.local.broker_owner import java_environment
from infra.local.broker_storage import format_storage
from infra.local.broker_wait import wait_until_ready
from infra.local.child import Child
from tests.ports import free_ports

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]
OPEN, DEAF, CLOSED = "open", "deaf", "closed"


class Gate:
    """Passes connections on. Deaf: answers are kept back; closed: who comes is hung up on."""

    def __init__(self, port: int, to: int) -> None:
        self.state, self._to = OPEN, to
        self._held: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self._listener.accept()
                if self.state == CLOSED:
                    near.close()
                    continue
                far = socket.create_connection(("127.0.0.1", self._to))
                self._held += [near, far]
                for source, sink, answers in ((near, far, False), (far, near, True)):
                    threading.Thread(target=self._pass, args=(source, sink, answers), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        with suppress(OSError):
            while data := source.recv(65_536):
                if not answers or self.state == OPEN:
                    sink.sendall(data)

    def close(self) -> None:
        """Hang up on all, and let nobody in."""
        self.state = CLOSED
        for one in self._held:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()
        self._held.clear()

    def end(self) -> None:
        self.close()
        self._listener.close()


@contextmanager
def gated_broker(folder: Path) -> Iterator[tuple[Settings, Gate]]:
    """A broker that tells its clients to come through the gate, with a topic `t`."""
    port, controller, gate_port = free_ports(3)
    plan = BrokerPlan(folder, folder / "logs", port, controller, 256)
    runtime = prepare(Settings(data_dir=folder, broker=BrokerSettings()))
    write_files(plan)
    direct, through = (f"advertised.listeners=PLAINTEXT://127.0.0.1:{one}" for one in (port, gate_port))
    properties = plan.properties_file.read_text()
    assert direct in properties
    plan.properties_file.write_text(properties.replace(direct, through))
    format_storage(runtime, plan)
    child = Child(java_command(runtime, plan, "kafka.Kafka", plan.properties_file), plan.console_file, java_environment())
    gate = Gate(gate_port, port)
    try:
        wait_until_ready(child, plan, 60.0)
        settings = Settings(data_dir=folder, kafka=KafkaSettings(bootstrap=f"127.0.0.1:{gate_port}"))
        admin = AdminClient({"bootstrap.servers": settings.bootstrap})
        admin.create_topics([NewTopic("t", 1, 1)])["t"].result(30)
        yield settings, gate
    finally:
        gate.end()
        child.kill()


def write(producer: Producer, value: bytes) -> None:
    """A transaction of one record, of which the producer says that it is delivered."""
    told: list[KafkaError | None] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        told.append(error)

    producer.begin_transaction()
    producer.produce("t", value, partition=0, on_delivery=delivered)
    producer.flush(20.0)
    insist(lambda: producer.commit_transaction(20.0))
    assert told == [None]


def purged_unanswered(producer: Producer, gate: Gate) -> None:
    """Open a transaction whose second record arrives, its answer does not, and the connection is lost: ready to be aborted."""
    producer.begin_transaction()
    producer.produce("t", b"aborted", partition=0)
    assert producer.flush(20.0) == 0
    gate.state = DEAF
    producer.produce("t", b"aborted too", partition=0)
    assert producer.flush(1.0) == 1
    gate.close()
    reopen = threading.Timer(0.5, setattr, (gate, "state", OPEN))
    reopen.start()


@pytest.mark.parametrize("renewed", [True, False], ids=["a new producer goes on", "the same producer goes on"])
def test_what_comes_after_an_abort_is_there(tmp_path: Path, renewed: bool) -> None:
    """The second case is the control: librdkafka (2.16) loses the next record. Where it no longer does, `abort` may keep the producer."""
    with gated_broker(tmp_path) as (settings, gate):
        producer = transactional_producer(settings, "writer")
        write(producer, b"before")
        begun = time.monotonic()
        purged_unanswered(producer, gate)
        try:
            if renewed:
                producer = abort(producer, settings, "writer")
            else:
                insist(lambda: producer.abort_transaction(10.0))
        except KafkaException as error:
            pytest.skip(f"the broker ended the transaction first, after {time.monotonic() - begun:.0f} s: {error}")
        for value in (b"first", b"second"):
            write(producer, value)
        found: list[bytes | None] = []
        read_whole(settings, "t", lambda message: found.append(value_of(message)))
    assert found == ([b"before", b"first", b"second"] if renewed else [b"before", b"second"])
