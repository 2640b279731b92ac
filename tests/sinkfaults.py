"""A sink under fire: an archiver as a process of its own, a log with bad records in it, and the comparison of its rows with the log."""

from __future__ import annotations

import os
import random
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import Error
from confluent_kafka import Message, Producer
from confluent_kafka.admin import AdminClient

from infra.app.supervisor import answers
from infra.core.settings import Settings
from infra.kafka.client import connection, prefixed, producer_config, read_whole, value_of
from infra.kafka.timestamps import recorded_at
from infra.local.child import Child
from schemas.codec import Codec
from schemas.events.assets import AssetChange
from schemas.events.findings import Finding
from schemas.events.observations import HostObservation
from schemas.examples import EXAMPLES
from schemas.ids import content_id
from schemas.rows import rows_of
from tests.archiving import PARTITIONS, caught_up, dead_letters, header
from tests.ports import free_ports
from tests.stores import RunningStore

TOPICS = {"probes": "observations", "changes": "changes", "findings": "findings"}
DOUBLED = {
    "observations": "SELECT count() - uniqExact(observation_id, port) FROM observations",
    "changes": "SELECT count() - uniqExact(change_id) FROM changes",
    "findings": "SELECT count() - uniqExact(finding_id) FROM findings",
}
SEEN = next(event for _, event in EXAMPLES if isinstance(event, HostObservation))
CHANGE = next(event for _, event in EXAMPLES if isinstance(event, AssetChange))
FOUND = next(event for _, event in EXAMPLES if isinstance(event, Finding))
BAD = (b"\x00no schema has this id", b"{}", b"", b"\xff" * 40)


class Mismatch(AssertionError):
    """The rows are not what the log says."""


class OutOfOrder(Exception):
    """Broker, store or machine failed in a way that the test did not ask for: nothing is said about the sink."""


@dataclass(slots=True)
class Scene:
    """An archiver that can be killed, in front of a store, possibly behind another port."""

    settings: Settings
    store: RunningStore
    seed: int
    port: int
    bad: Counter[bytes] = field(default_factory=Counter)
    child: Child | None = None
    health: int = field(default_factory=lambda: free_ports(1)[0])

    def start(self) -> None:
        """Start the archiver, and wait until it is ready."""
        environment = {
            **os.environ,
            "DRIFTLINE_DATA_DIR": str(self.store.settings.data_dir),
            "DRIFTLINE_STORE__PORT": str(self.port),
            "DRIFTLINE_KAFKA__BOOTSTRAP": self.settings.bootstrap,
            "DRIFTLINE_KAFKA__PREFIX": self.settings.kafka.prefix,
            "DRIFTLINE_KAFKA__PARTITIONS": str(PARTITIONS),
            "DRIFTLINE_ARCHIVER__BATCH_ROWS": str(self.settings.archiver.batch_rows),
            "DRIFTLINE_TELEMETRY__PORT_BASE": str(self.health - 7),
        }
        log = self.store.settings.data_dir / "archiver.log"
        self.child = Child([sys.executable, "-m", "infra.app.cli", "run", "archiver"], log, environment)
        self.await_(lambda: answers(self.health, "/readyz") or self.ended(), "the archiver to be ready")
        if self.ended():
            raise OutOfOrder(f"the archiver ended: {log.read_text(errors='replace')[-2000:]}")

    def ended(self) -> bool:
        """Whether the archiver has ended."""
        return self.child is None or self.child.poll() is not None

    def kill(self) -> None:
        """kill -9, and wait until it is gone."""
        assert self.child is not None
        os.kill(self.child.pid, signal.SIGKILL)
        self.await_(self.ended, "the killed archiver to be gone")

    def raw(self) -> int:
        """How many rows stand, copies counted."""
        client = self.store.client()
        return sum(int(client.query(f"SELECT count() FROM {table}").result_rows[0][0]) for table in DOUBLED)  # noqa: S608

    def members(self) -> list[str]:
        """The archiver's members of its groups; another id after each time that one had to join again."""
        names = [prefixed(self.settings, group) for group in ("archiver", "archiver-findings")]
        admin = AdminClient(connection(self.settings))
        found = admin.describe_consumer_groups(names)
        return sorted(str(one.member_id) for group in names for one in found[group].result(20).members)

    def await_(self, condition: Callable[[], object], what: str, seconds: float = 90.0) -> None:
        """Wait for a condition. Raises OutOfOrder when it does not come true in time: that is no mismatch."""
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise OutOfOrder(f"seed {self.seed}: not within {seconds:.0f} s: {what}")
            time.sleep(0.02)

    def through(self) -> None:
        """Wait until all that is on the log is written or set aside."""
        self.await_(lambda: caught_up(self.settings), "the archiver to be through", 180.0)

    def pour(self, events: int, first: int = 0) -> None:
        """Publish so many events, numbered from `first`, in an order that the seed decides, one of a hundred bad; findings are revised."""
        chance, codec = random.Random(self.seed + first), Codec()  # noqa: S311  to be repeated
        producer = Producer(producer_config(self.settings, **{"linger.ms": 5}))
        for number in range(first, first + events):
            topic = chance.choice(("probes", "probes", "changes", "changes", "findings"))
            if chance.random() < 0.01:
                value = chance.choice(BAD)
                self.bad[value] += 1
            else:
                value = codec.encode(topic, _event(topic, number, chance))
            producer.produce(prefixed(self.settings, topic), value, b"k", number % PARTITIONS)
            producer.poll(0)
        if producer.flush(60.0):
            raise OutOfOrder("Kafka did not take the events")


def _event(topic: str, number: int, chance: random.Random) -> HostObservation | AssetChange | Finding:
    address = f"198.18.{number // 250 % 250}.{number % 250}"
    if topic == "probes":
        return SEEN.model_copy(update={"observation_id": content_id("o", str(number)), "address": address})
    if topic == "changes":
        return CHANGE.model_copy(update={"change_id": content_id("c", str(number)), "address": address, "summary": f"number {number}"})
    which = chance.randrange(300)
    return FOUND.model_copy(update={"finding_id": content_id("f", str(which)), "revision": number, "title": f"revision {number}"})


def expected(settings: Settings) -> dict[str, Counter[str]]:
    """The rows that a reader of committed records makes of the log from offset 0, without what was set aside: for each table."""
    codec = Codec()
    found: dict[str, dict[str, tuple[int, str]]] = {table: {} for table in TOPICS.values()}
    for topic in TOPICS:
        aside = {(header(one, "source.partition"), header(one, "source.offset")) for one in dead_letters(settings, topic)}

        def take(message: Message, topic: str = topic, aside: set[tuple[str, str]] = aside) -> None:
            if (str(message.partition()), str(message.offset())) in aside:
                return
            for table, row in rows_of(codec.decode(topic, value_of(message) or b""), recorded_at(message)):
                key = str([row.get(name) for name in ("observation_id", "port", "change_id", "finding_id")])
                kept = found[table].get(key)
                if kept is None or row.get("revision", 0) >= kept[0]:
                    found[table][key] = (int(row.get("revision", 0)), _text(row))

        read_whole(settings, topic, take)
    return {table: Counter(text for _, text in rows.values()) for table, rows in found.items()}


def standing(store: RunningStore) -> dict[str, Counter[str]]:
    """The rows that a reader with FINAL sees."""
    found = {}
    for table in TOPICS.values():
        result = store.client().query(f"SELECT * EXCEPT ip FROM {table} FINAL" if table != "findings" else "SELECT * FROM findings FINAL")  # noqa: S608
        found[table] = Counter(_text(dict(zip(result.column_names, row, strict=True))) for row in result.result_rows)
    return found


def compare(scene: Scene) -> int:
    """Rows and letters against the log. Raises Mismatch, or OutOfOrder where they can't be read. Returns how many rows there are."""
    try:
        want, have = expected(scene.settings), standing(scene.store)
        letters = Counter(value_of(one) or b"" for topic in TOPICS for one in dead_letters(scene.settings, topic))
    except (Error, OSError) as error:
        raise OutOfOrder(f"seed {scene.seed}: {error}") from error
    for table, rows in want.items():
        if have[table] != rows:
            lost, more = rows - have[table], have[table] - rows
            raise Mismatch(f"seed {scene.seed}, {table}: {lost.total()} lost, {more.total()} unknown: {[*lost, *more][:2]}")
    missing = {value: count for value, count in scene.bad.items() if letters[value] < count}
    strange = set(letters) - set(scene.bad)
    if missing or strange:
        raise Mismatch(f"seed {scene.seed}: letters missing {missing}, strange {strange}")
    return sum(rows.total() for rows in want.values())


def _text(row: dict[str, Any]) -> str:
    return str(sorted((name, _plain(value)) for name, value in row.items()))


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return str(round(value.replace(tzinfo=value.tzinfo or UTC).timestamp() * 1000))
    return str(list(value) if isinstance(value, tuple) else value)


@contextmanager
def watching(store: RunningStore) -> Iterator[list[int]]:
    """A reader that asks with FINAL, again and again, for rows that stand twice; what it found at each look."""
    looks: list[int] = []
    stop = threading.Event()

    def look() -> None:
        client: Client | None = None
        while not stop.is_set():
            with suppress(Error, OSError):
                client = client or store.client()
                looks.append(sum(int(client.query(f"{sql} FINAL").result_rows[0][0]) for sql in DOUBLED.values()))
            stop.wait(0.02)

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    try:
        yield looks
    finally:
        stop.set()
        thread.join(30)


class Cutter:
    """A TCP proxy in front of the store that cuts connections in the middle of what a client sends."""

    def __init__(self, port: int, seed: int, cuts: int) -> None:
        self._target, self._chance, self.left, self.cut = port, random.Random(seed), cuts, 0  # noqa: S311
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._target))
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()

    def _pass(self, source: Any, sink: Any, up: bool) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 14):
                # A whole chunk belongs to the body of a larger insert; half of it still goes through.
                if up and self.left and len(data) == 1 << 14 and self._chance.random() < 0.5:
                    self.left, self.cut = self.left - 1, self.cut + 1
                    sink.sendall(data[: len(data) // 2])
                    break
                sink.sendall(data)
        for one in (source, sink):
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()


def memory_mb(pid: int) -> float:
    """Resident memory of a process."""
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024
