"""Workers in processes of their own on a real broker, what is done to them, and what the log must hold afterwards."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from multiprocessing.context import SpawnProcess

from confluent_kafka import Consumer, Message, Producer, TopicPartition

from infra.app.runner import HANG_SECONDS
from infra.core.logs import configure_logs
from infra.core.settings import Settings, TelemetrySettings
from infra.core.telemetry import TELEMETRY
from infra.kafka.client import connection, prefixed, producer_config, read_whole, value_of
from infra.kafka.loop import run_step
from schemas.codec import Codec
from schemas.events.intel import IntelRecord
from schemas.events.operations import Tick
from tests.tallying import BAD_SECOND, PLAN, START, Tally, folded, kept, told

KEYS = 5_000
SPAWN = multiprocessing.get_context("spawn")
FUTURE = b"\x00\x7f\x00\x00\x01of a schema that is not written yet"
Log = dict[int, list[Message]]


class InfrastructureError(Exception):
    """The test's own surroundings failed; nothing is said of the engine."""


def _work(settings: Settings, slot: int) -> None:
    faulthandler.register(signal.SIGUSR1)
    configure_logs(TelemetrySettings(log_level="error"))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    threading.Thread(target=_mind_hangs, daemon=True).start()
    run_step(settings.model_copy(update={"slot": slot}), PLAN, lambda _: Tally(), stop, lambda: None)


def _mind_hangs() -> None:
    """What `run_roles` does for a role: one that hangs is ended, and started anew."""
    while TELEMETRY.healthy(HANG_SECONDS):
        time.sleep(1.0)
    os._exit(1)


class Crew:
    """Workers that are started again when they end, as a supervisor does; by slot."""

    def __init__(self, settings: Settings, slots: int) -> None:
        self._settings, self._stopping, self.starts = settings, threading.Event(), 0
        self._running: dict[int, SpawnProcess] = {}
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._mind, args=(slot,), daemon=True) for slot in range(slots)]

    def __enter__(self) -> Crew:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join(60)
        for process in self._running.values():
            process.kill()

    def _mind(self, slot: int) -> None:
        while not self._stopping.is_set():
            process = SPAWN.Process(target=_work, args=(self._settings, slot))
            process.start()
            with self._lock:
                self._running[slot] = process
                self.starts += 1
            while process.is_alive() and not self._stopping.wait(0.05):
                pass
            if self._stopping.is_set():
                process.terminate()
            process.join(30)

    def tell(self) -> None:
        """Let every worker write where it stands to standard error."""
        for slot in list(self._running):
            self.end(slot, signal.SIGUSR1)

    def end(self, slot: int, how: signal.Signals) -> None:
        """Send a signal to the worker of a slot, if it lives."""
        with self._lock:
            process = self._running.get(slot)
        if process is not None and process.pid is not None and process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(process.pid, how)


def feed(settings: Settings, count: int, seed: int, bad: float = 0.01) -> dict[str, int]:
    """Write so many records to `ticks`, some of them bad in every way, and now and then one to `intel`. Returns how many of each kind."""
    luck, codec, kinds = random.Random(seed), Codec(), dict[str, int]()  # noqa: S311  luck, not a secret
    producer = Producer(producer_config(settings, **{"linger.ms": 5}))
    topic = prefixed(settings, "ticks")
    for number in range(count):
        partition = luck.randrange(settings.kafka.partitions)
        kind = luck.choice(("junk", "empty", "future", "refused", "large")) if luck.random() < bad else "good"
        kind = "large" if kind == "large" and luck.random() < 0.1 else "junk" if kind == "large" else kind
        second = BAD_SECOND if kind == "refused" else 0
        tick = codec.encode("ticks", Tick(partition=partition, minute=START + timedelta(minutes=number, seconds=second)))
        value = {"junk": b"{not avro", "empty": b"", "future": FUTURE, "large": b"\xff" * (1 << 20)}.get(kind, tick)
        key = f"k{luck.randrange(KEYS)}".encode() if luck.random() > 0.001 else b"\xff\xfe not text"
        while True:
            try:
                producer.produce(topic, value, key, partition)
                break
            except BufferError:
                producer.poll(0.1)
        kinds[kind] = kinds.get(kind, 0) + 1
        if number % 5_000 == 4_999:
            cve = f"CVE-2026-{luck.randrange(9)}"
            producer.produce(prefixed(settings, "intel"), codec.encode("intel", IntelRecord(cve=cve, as_of=START)), cve.encode(), 0)
            producer.poll(0)
    if producer.flush(120):
        raise InfrastructureError("the source could not write its records")
    return kinds


def log_of(settings: Settings, topic: str) -> Log:
    """All committed records of a topic, by partition, from offset 0."""
    found: Log = {number: [] for number in range(settings.kafka.partitions)}
    read_whole(settings, topic, lambda message: found[message.partition() or 0].append(message), 60.0)
    return found


def pairs(messages: list[Message]) -> Iterator[tuple[bytes | None, bytes | None]]:
    """Keys and values."""
    for message in messages:
        key = message.key()
        yield key.encode() if isinstance(key, str) else key, value_of(message)


def wrong(settings: Settings) -> list[str]:
    """What a plain fold of the inputs, read anew from offset 0, does not agree with."""
    codec, found = Codec(), list[str]()
    inputs, outputs = log_of(settings, "ticks"), log_of(settings, "rollups")
    changelog, letters = log_of(settings, PLAN.changelog or ""), log_of(settings, "dlq.ticks")
    intel: dict[str, int] = {}
    read_whole(settings, "intel", lambda message: intel.__setitem__(str(message.key()), message.offset() or 0))
    for number in range(settings.kafka.partitions):
        wanted = folded(pairs(inputs[number]), codec)
        events = [codec.decode("rollups", value or b"") for _, value in pairs(outputs[number])]
        seen = [one for one in map(told, events) if one]
        if seen != wanted.outputs:
            unique = len(set(seen))
            found.append(f"partition {number}: {len(seen)} outputs, {unique} of them unique, not {len(wanted.outputs)} in their order")
        state = {(key or b"").decode(): value or b"" for key, value in pairs(changelog[number])}
        if kept(state) != wanted.state:
            found.append(f"partition {number}: the state is not what a replay gives")
        if [value for _, value in pairs(letters[number])] != wanted.dead:
            found.append(f"partition {number}: {len(letters[number])} dead letters, not {len(wanted.dead)}, or other bytes")
        judged = [one.count for one in events if told(one) is None]  # type: ignore[attr-defined]
        if len(judged) != len(set(judged)) or not set(intel.values()) <= set(judged):
            found.append(f"partition {number}: words on intel {sorted(judged)}, wanted {sorted(intel.values())} and none twice")
    return found


def must_fail(settings: Settings) -> None:
    """The negative control: one output more is seen."""
    extra = next(message for messages in log_of(settings, "rollups").values() for message in messages)
    producer = Producer(producer_config(settings))
    producer.produce(prefixed(settings, "rollups"), extra.value(), extra.key(), extra.partition() or 0)
    producer.flush(20)
    (sentence,) = wrong(settings)
    assert f"partition {extra.partition()}" in sentence


def until(condition: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait for a condition. Raises InfrastructureError when it does not come true: that is no mismatch, but nothing is shown either."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise InfrastructureError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


def finished(settings: Settings) -> bool:
    """Whether every record is consumed, and every partition has judged all of `intel`."""
    asker = Consumer({**connection(settings), "group.id": prefixed(settings, PLAN.role), "isolation.level": "read_uncommitted"})
    try:
        places = [TopicPartition(prefixed(settings, "ticks"), number) for number in range(settings.kafka.partitions)]
        done = {one.partition: one.offset for one in asker.committed(places, 10.0)}
        if any(done[one.partition] < asker.get_watermark_offsets(one, 10.0)[1] for one in places):
            return False
        end = asker.get_watermark_offsets(TopicPartition(prefixed(settings, "intel"), 0), 10.0)[1]
        kept_state = (dict(pairs(messages)) for messages in log_of(settings, PLAN.changelog or "").values())
        return all(int(one.get(b"\0applied|intel") or b"0") >= end for one in kept_state)
    except Exception:  # noqa: BLE001  the broker may be down just now, on purpose
        return False
    finally:
        asker.close()


def consumed(settings: Settings) -> int:
    """How many offsets of `ticks` the group has consumed. Raises KafkaException when nobody can tell."""
    asker = Consumer({**connection(settings), "group.id": prefixed(settings, PLAN.role)})
    try:
        places = [TopicPartition(prefixed(settings, "ticks"), number) for number in range(settings.kafka.partitions)]
        return sum(max(0, one.offset) for one in asker.committed(places, 10.0))
    finally:
        asker.close()


def standing(settings: Settings) -> str:
    """Where each partition stands, for who looks why it does not go on: begin of what is undecided, end, and what the group consumed."""
    told = []
    both = [
        Consumer({**connection(settings), "group.id": prefixed(settings, PLAN.role), "isolation.level": level})
        for level in ("read_committed", "read_uncommitted")
    ]
    for topic in ("ticks", "intel", PLAN.changelog or "", "rollups", "dlq.ticks"):
        for number in range(1 if topic == "intel" else settings.kafka.partitions):
            place = TopicPartition(prefixed(settings, topic), number)
            stable, end = (one.get_watermark_offsets(place, 10.0)[1] for one in both)
            done = both[0].committed([place], 10.0)[0].offset if topic == "ticks" else ""
            told.append(f"{topic}[{number}] {stable} {end} {done}{' UNDECIDED' if stable != end else ''}")
    for one in both:
        one.close()
    return "\n".join(told)


@contextmanager
def tormenting(torment: Callable[[random.Random], None], seed: int, pauses: tuple[float, float]) -> Iterator[threading.Event]:
    """Do something bad again and again, from a thread, until the block is left. The event is set when it has ended by itself."""
    luck, leave, over = random.Random(seed), threading.Event(), threading.Event()  # noqa: S311

    def go() -> None:
        while not leave.wait(luck.uniform(*pauses)):
            try:
                torment(luck)
            except StopIteration:
                break
            except Exception as error:  # noqa: BLE001  told to the test, in its own thread
                trouble.append(error)
                break
        over.set()

    trouble: list[Exception] = []
    thread = threading.Thread(target=go, daemon=True)
    thread.start()
    try:
        yield over
    finally:
        leave.set()
        thread.join(120)
    if trouble:
        raise InfrastructureError(f"the torment failed: {trouble[0]}") from trouble[0]
