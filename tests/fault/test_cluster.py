"""Three brokers, one killed for good in the middle of a run, then another for ten seconds: nothing is lost, and the workers go on or wait.

Each record has three copies of which two must be there. With one node of three the quorum is gone: nothing can be committed, and nothing
may be believed that later turns out not to be.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from infra.core.settings import Settings
from infra.kafka.client import connection, prefixed
from infra.kafka.topics import TopicAdmin
from tests.clusters import Node, running_cluster
from tests.fault.storm import Crew, InfrastructureError, consumed, feed, finished, log_of, must_fail, standing, until, wrong

pytestmark = [pytest.mark.kafka, pytest.mark.slow, pytest.mark.long, pytest.mark.timeout(900)]
PARTITIONS, WORKERS, SHARE = 6, 3, 4_000
DOWN_SECONDS = 10.0


class Source:
    """Feeds records from a thread, part by part, until the block is left; it too has to wait while nothing can be written."""

    def __init__(self, settings: Settings, seed: int) -> None:
        self._settings, self._seed, self.fed = settings, seed, 0
        self._stop, self._trouble = threading.Event(), list[Exception]()
        self._thread = threading.Thread(target=self._go, daemon=True)

    def __enter__(self) -> Source:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(300)
        if self._thread.is_alive() or self._trouble:
            raise InfrastructureError(f"the source could not write its records: {self._trouble}")

    def _go(self) -> None:
        try:
            while not self._stop.wait(0.1):
                self._seed += 1
                self.fed += sum(feed(self._settings, 250, self._seed).values())
        except Exception as error:  # noqa: BLE001  told to the test, in its own thread
            self._trouble.append(error)


def test_one_broker_dead_for_good_and_another_for_ten_seconds_change_nothing(tmp_path: Path) -> None:
    seed = int.from_bytes(os.urandom(4), "big")
    print(f"seed {seed}")
    with running_cluster(tmp_path, PARTITIONS) as cluster:
        settings = cluster.settings
        TopicAdmin(settings).apply()
        three_copies(settings)
        first, second = random.Random(seed).sample(cluster.nodes, 2)  # noqa: S311  luck, not a secret
        with Crew(settings, WORKERS) as crew, explained(settings, crew):
            with Source(settings, seed) as source:
                gone_on(settings, "in the middle of it")
                first.kill()
                print(f"on two brokers: another {SHARE} records after {gone_on(settings, 'on two brokers'):.1f} s")
                with_one_broker(settings, second, source)
                print(f"on two brokers again: another {SHARE} records after {gone_on(settings, 'on two brokers again'):.1f} s")
            until(lambda: finished(settings), 240, "all records to be consumed")
            # A commit's markers reach each partition in their own time, which is long where a leader has just changed.
            until(lambda: "UNDECIDED" not in standing(settings), 60, "all transactions to be decided")
            print(f"{source.fed} records, {crew.starts} starts of workers")
        there = sum(len(messages) for messages in log_of(settings, "ticks").values())
        assert there == source.fed, f"{there} of {source.fed} acknowledged records are there"
        assert told_twice(settings) == []
        must_fail(settings)


def told_twice(settings: Settings) -> list[str]:
    """What is wrong; if anything is, also where the log stands and what is wrong when it is read again, which tells a reader's fault."""
    found = wrong(settings)
    if found:
        print(f"wrong: {found}\n{standing(settings)}")
        time.sleep(DOWN_SECONDS)  # that the brokers may settle
        print(f"read again: {wrong(settings)}\n{standing(settings)}")
    return found


@contextmanager
def explained(settings: Settings, crew: Crew) -> Iterator[None]:
    """Where something does not come true, say where the workers and the log stand."""
    try:
        yield
    except InfrastructureError:
        crew.tell()
        print(standing(settings))
        raise


def gone_on(settings: Settings, when: str) -> float:
    """Wait until the workers have consumed another share; gives the seconds that it took."""
    begun, before = time.monotonic(), consumed_or_none(settings) or 0
    until(lambda: (consumed_or_none(settings) or 0) >= before + SHARE, 180, f"the workers to go on {when}")
    return time.monotonic() - begun


def with_one_broker(settings: Settings, second: Node, source: Source) -> None:
    """Ten seconds during which a single broker is left: what was committed stands still, and the source waits too."""
    second.kill()
    down = time.monotonic()
    time.sleep(DOWN_SECONDS / 4)  # what was on its way is through or not
    before = source.fed, consumed_or_none(settings)
    time.sleep(max(0.0, DOWN_SECONDS - (time.monotonic() - down)))  # how long it lasts, not a wait for something
    after = source.fed, consumed_or_none(settings)
    assert before[0] == after[0], "the source was told that records are safe which only one broker has"
    assert None in (before[1], after[1]) or before[1] == after[1], "something was committed that only one broker has"
    second.launch()
    second.await_ready()
    print(f"one broker for {time.monotonic() - down:.1f} s")


def consumed_or_none(settings: Settings) -> int | None:
    """What the group has consumed; None while nobody can tell."""
    try:
        return consumed(settings)
    except Exception:  # noqa: BLE001  brokers are down on purpose
        return None


def three_copies(settings: Settings) -> None:
    """`topics apply` did what the settings say."""
    topics = AdminClient(connection(settings)).list_topics(timeout=15).topics
    for name in ("ticks", "state.correlator", "rollups", "dlq.ticks", "intel"):
        assert all(len(one.replicas) == 3 for one in topics[prefixed(settings, name)].partitions.values())
    assert TopicAdmin(settings).plan() == []
