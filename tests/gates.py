"""A real broker behind a gate in a test's hand: it can keep answers back, and hang up."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from infra.core.settings import BrokerSettings, KafkaSettings, Settings
from infra.local.broker import prepare
from infra.local.broker_config import BrokerPlan, java_command, write_files
from infra.local.broker_owner import java_environment
from infra.local.broker_storage import format_storage
from infra.local.broker_wait import wait_until_ready
from infra.local.child import Child
from tests.ports import free_ports

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
                    threading.Thread(target=self.carry, args=(source, sink, answers), daemon=True).start()

    def carry(self, source: socket.socket, sink: socket.socket, answers: bool) -> None:
        """Carry the bytes of one direction."""
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
def gated_broker(folder: Path, make: Callable[[int, int], Gate] = Gate) -> Iterator[tuple[Settings, Gate]]:
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
    gate = make(gate_port, port)
    try:
        wait_until_ready(child, plan, 60.0)
        settings = Settings(data_dir=folder, kafka=KafkaSettings(bootstrap=f"127.0.0.1:{gate_port}"))
        admin = AdminClient({"bootstrap.servers": settings.bootstrap})
        admin.create_topics([NewTopic("t", 1, 1)])["t"].result(30)
        yield settings, gate
    finally:
        gate.end()
        child.kill()
