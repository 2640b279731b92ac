"""No record is lost where a broker becomes a partition's leader between two requests of a producer that it does not know.

A real broker behind a gate that answers the first request in its place, as a broker does that is not yet the leader.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError, Message, Producer

from infra.kafka.client import producer_config, read_whole, value_of
from tests.gates import Gate, gated_broker

pytestmark = [pytest.mark.kafka, pytest.mark.timeout(120)]
PRODUCE = 0
NOT_LEADER_OR_FOLLOWER = 6


class LateLeader(Gate):
    """Refuses the first ProduceRequest once a second waits behind it, or none came within two seconds; `asked`: it has the first."""

    def __init__(self, port: int, to: int) -> None:
        self.asked, self.refused = threading.Event(), False
        super().__init__(port, to)

    def carry(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        if answers:
            super().carry(source, sink, answers)
            return
        with suppress(OSError, EOFError):
            while True:
                frame = _exactly(source, struct.unpack(">i", _exactly(source, 4))[0])
                key, version, correlation = struct.unpack_from(">hhi", frame)
                if key == PRODUCE and not self.refused:
                    assert version in (9, 10), "the refusal is written in these versions"
                    self.refused = True
                    self.asked.set()
                    select.select([source], [], [], 2.0)
                    source.sendall(not_leader(correlation))
                else:
                    sink.sendall(struct.pack(">i", len(frame)) + frame)


def _exactly(source: socket.socket, count: int) -> bytes:
    found = b""
    while len(found) < count:
        more = source.recv(count - len(found))
        if not more:
            raise EOFError
        found += more
    return found


def not_leader(correlation: int) -> bytes:
    """A ProduceResponse (versions 9 and 10) of the topic `t`, partition 0."""
    partition = struct.pack(">ihqqq", 0, NOT_LEADER_OR_FOLLOWER, -1, -1, -1) + b"\x01" + b"\x00" + b"\x00"
    body = b"\x02" + b"\x02t" + b"\x02" + partition + b"\x00" + struct.pack(">i", 0) + b"\x00"
    frame = struct.pack(">i", correlation) + b"\x00" + body
    return struct.pack(">i", len(frame)) + frame


@pytest.mark.parametrize("over", [{}, {"max.in.flight.requests.per.connection": 5}], ids=["as we set it", "several requests at a time"])
def test_what_a_broker_refused_comes_before_what_it_takes(tmp_path: Path, over: dict[str, Any]) -> None:
    """The second case is the control: the first record is lost though reported delivered. Where it no longer is, the setting may go."""
    told: list[KafkaError | None] = []

    def delivered(error: KafkaError | None, _: Message) -> None:
        told.append(error)

    with gated_broker(tmp_path, LateLeader) as (settings, gate):
        assert isinstance(gate, LateLeader)
        producer = Producer(producer_config(settings, **over))
        producer.produce("t", b"first", partition=0, on_delivery=delivered)
        assert gate.asked.wait(20.0)
        producer.produce("t", b"second", partition=0, on_delivery=delivered)
        assert producer.flush(20.0) == 0
        found: list[bytes | None] = []
        read_whole(settings, "t", lambda message: found.append(value_of(message)))
    assert told == [None, None]
    assert found == ([b"second"] if over else [b"first", b"second"])
