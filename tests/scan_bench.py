"""Scanners on a real broker: a prefix of its own, hands to push and read, scanners in threads and processes."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO

from infra.core.clock import SteadyClock, uptime
from infra.core.settings import PlannerSettings, Settings
from infra.kafka.client import Publisher, read_table, read_whole
from infra.kafka.topics import TopicAdmin
from processors.scan.heartbeat import Identity
from processors.scan.scanner import run_scanner
from processors.scan.scope.orders import key_of_order
from schemas.codec import Codec
from schemas.events.base import Event
from schemas.events.grants import Command, CommandKind
from schemas.events.observations import SweepResult
from schemas.events.operations import AgentStatus
from schemas.events.targets import WorkUnit
from schemas.ids import subnet_key
from tests.processes import end
from tests.scan_samples import Wire, scan_settings

NUMBERS = itertools.count()


def wait_for(condition: Callable[[], object], seconds: float = 40.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


class Bench:
    """A prefix of its own on a broker, and hands to push, read and start scanners."""

    def __init__(self, bootstrap: str, folder: Path, stack: ExitStack) -> None:
        self.bootstrap, self.folder, self._stack = bootstrap, folder, stack
        self.prefix = f"scan{os.getpid()}-{next(NUMBERS)}."
        self.settings = self.settings_of(0)
        TopicAdmin(self.settings).apply()
        self.codec = Codec()
        self.publisher = Publisher(self.settings, self.codec)
        self.wire = folder / "wire.txt"

    def settings_of(self, slot: int, unit_seconds: int = 60, **scanner: object) -> Settings:
        settings = scan_settings(self.bootstrap, self.folder, self.prefix, slot, **scanner)
        return settings.model_copy(update={"planner": PlannerSettings(unit_seconds=unit_seconds)})

    def push(self, *units: WorkUnit) -> None:
        for unit in units:
            key = subnet_key(unit.zone, unit.subnet)
            self.publisher.publish("work.default", key, unit)
        self.publisher.flush()

    def say(self, topic: str, key: str, event: Event) -> float:
        self.publisher.publish(topic, key, event)
        self.publisher.flush()
        return uptime()

    def command(self, kind: CommandKind, agent: str = "*", networks: tuple[str, ...] = ()) -> float:
        order = Command(agent_id=agent, kind=kind, networks=networks, issued_by="test", issued_at=datetime.now(UTC))
        return self.say("commands", key_of_order(order), order)

    def events(self, topic: str) -> list[Event]:
        found: list[Event] = []

        def take(message: object) -> None:
            found.append(self.codec.decode(topic, message.value()))  # type: ignore[attr-defined]

        read_whole(self.settings, topic, take)
        return found

    def sweeps(self) -> list[SweepResult]:
        return [one for one in self.events("probes") if isinstance(one, SweepResult)]

    def thread(self, slot: int = 0, unit_seconds: int = 60, **scanner: object) -> threading.Event:
        """A scanner in a thread; it is stopped at the end of the test, and must then end without an error."""
        settings = self.settings_of(slot, unit_seconds, **scanner)
        return self._stack.enter_context(in_thread(settings, Wire(self.wire, f"agent-{slot}")))

    def process(self, slot: int) -> subprocess.Popen[str]:
        return self._stack.enter_context(in_process(self.bootstrap, self.folder, self.prefix, slot, self.wire))


@contextmanager
def in_thread(settings: Settings, wire: Wire, clock: SteadyClock | None = None) -> Iterator[threading.Event]:
    stop, ready, failures = threading.Event(), threading.Event(), []
    identity = Identity(str(settings.scanner.agent_id), "default", "wire", (), datetime.now(UTC))

    def work() -> None:
        try:
            run_scanner(settings, identity, wire.run, stop, ready.set, clock)
        except Exception as error:  # noqa: BLE001  shown below
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        wait_for(lambda: ready.is_set() or failures)
        yield stop
    finally:
        stop.set()
        thread.join(30)
        wire.close()
    assert not failures, failures
    assert not thread.is_alive()


@contextmanager
def in_process(bootstrap: str, folder: Path, prefix: str, slot: int, wire: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "tests.scan_worker", bootstrap, str(folder), prefix, str(slot), str(wire)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        try:
            await_line(child.stdout, "ready")
            yield child
        finally:
            child.send_signal(signal.SIGCONT)
            end(child, 15)


def await_line(stream: IO[str] | None, wanted: str) -> None:
    assert stream is not None
    for line in stream:
        if line.strip() == wanted:
            return
    raise AssertionError(f"the worker ended before it said '{wanted}'")


def heartbeats(bench: Bench) -> dict[str, AgentStatus]:
    return {key: one for key, one in read_table(bench.settings, "agents").items() if isinstance(one, AgentStatus)}
