"""The engine in a simulated world: thousands of orders of events, kills, stalls, lost answers and rebalances, each by its seed.

What a seed did is done again by `run(seed, FAULTS)`. A run that does not come to its end raises NoProgressError, which is no mismatch.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

import pytest
from confluent_kafka import TopicPartition

from infra.kafka import outbox
from infra.kafka.client import insist
from infra.kafka.outbox import Outbox
from infra.kafka.partitions import Partitions
from tests.simulation.engine import DiskStore, Outcome, run, staged
from tests.simulation.seeds import assert_all_right, assert_found_out, assert_right
from tests.simulation.world import NONE, Faults

FAULTS = Faults()
ALL = 10_000
FEW = 400
CONTROLS = 3_000  # so many seeds a mutant has at most until it is found out


def outcomes(seeds: Sequence[int]) -> list[tuple[int, Outcome]]:
    """All runs, of which those that went wrong are kept whole."""
    with staged():
        return [(seed, run(seed, FAULTS)) for seed in seeds]


def test_some_hundred_seeds_lose_nothing_and_double_nothing() -> None:
    first = int.from_bytes(os.urandom(4), "big")
    print(f"seeds {first} to {first + FEW - 1}")
    found = outcomes(range(first, first + FEW))
    assert_right(found)
    kinds = [word.split()[1] for _, outcome in found for word in outcome.story]
    assert {"kill", "stall"} <= set(kinds), "nothing went wrong in this world"
    assert sum(len(outcome.story) for _, outcome in found) > FEW


@pytest.mark.long
@pytest.mark.timeout(900)
def test_ten_thousand_seeds() -> None:
    assert_all_right(outcomes, ALL)


def test_a_crash_at_every_single_call() -> None:
    with staged():
        calls = run(1, NONE, records=8).calls
        for at in range(1, calls + 1):
            outcome = run(1, NONE, records=8, kill_at=at)
            assert not outcome.wrong, f"killed at call {at} of {calls}: {outcome.wrong}"
    print(f"{calls} calls, each the last once")


@pytest.mark.long
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(2, 8))
def test_a_crash_at_every_single_call_of_more_worlds(seed: int) -> None:
    with staged():
        calls = run(seed, NONE).calls
        for at in range(1, calls + 1):
            outcome = run(seed, NONE, kill_at=at)
            assert not outcome.wrong, f"killed at call {at} of {calls}: {outcome.wrong}"


def test_a_seed_gives_the_same_run_again() -> None:
    with staged():
        assert run(7, FAULTS) == run(7, FAULTS)


@contextmanager
def offsets_apart() -> Iterator[None]:
    """A mutant: consumed offsets are committed after the transaction, not in it."""
    consumers: dict[int, Any] = {}
    restore_as_it_is = Partitions.restore

    def restore(self: Partitions) -> None:
        consumers[self._settings.slot] = self._consumer
        restore_as_it_is(self)

    def commit(self: Outbox, offsets: Sequence[TopicPartition], group: object) -> None:
        del group
        self._producer.commit_transaction(10.0)
        if offsets:
            consumers[self._settings.slot].commit(offsets=list(offsets), asynchronous=False)

    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(Outbox, "commit", commit))
        stack.enter_context(mock.patch.object(Partitions, "restore", restore))
        yield


def nobody_is_refused() -> AbstractContextManager[Any]:
    """A mutant: a transaction of table news names no position, so that a worker left behind may commit (so it was once)."""

    def positions(self: Partitions) -> list[TopicPartition]:
        del self
        return []

    return mock.patch.object(Partitions, "positions", positions)


def never_replayed() -> AbstractContextManager[Any]:
    """A mutant: the local store is not brought up from the changelog."""

    def replay(self: Partitions, numbers: list[int]) -> None:
        del numbers
        self._store = self._store or DiskStore(self._settings.data_dir, "simulated")  # type: ignore[assignment]

    return mock.patch.object(Partitions, "_replay", replay)


def the_same_producer_goes_on() -> AbstractContextManager[Any]:
    """A mutant: after an abort no new producer is made (so it was once)."""

    def abort(producer: Any, settings: object, role: str) -> Any:
        del settings, role
        insist(lambda: producer.abort_transaction(10.0))
        return producer

    return mock.patch.object(outbox, "abort", abort)


@pytest.mark.parametrize("mutant", [offsets_apart, nobody_is_refused, never_replayed, the_same_producer_goes_on])
def test_a_broken_engine_is_found_out(mutant: Callable[[], AbstractContextManager[Any]]) -> None:
    assert_found_out(mutant, staged, lambda seed: bool(run(seed, FAULTS).wrong), CONTROLS)
