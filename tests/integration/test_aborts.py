"""What comes after an aborted transaction is there, also where the abort purged a record that had arrived unanswered."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from confluent_kafka import KafkaError, KafkaException, Message, Producer

from infra.kafka.client import abort, insist, read_whole, transactional_producer, value_of
from tests.gates import DEAF, OPEN, Gate, gated_broker

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(180)]


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
