"""The sink in a simulated world: crashes at any call, lost answers, late and partial inserts, rebalances, each by its seed.

What a seed did is done again by `run(seed, FAULTS, columns=by_columns(seed))`. The oracle is the log itself: the rows are those that a
reader of committed records derives from offset 0, the DLQs hold what can't be one, and no watermark ever says more than is written.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from threading import Event as Flag
from typing import Any
from unittest import mock

import pytest

from consumers.archive.letters import DeadLetters
from consumers.archive.progress import Place, Progress
from consumers.archive.pump import Job, Pump
from tests.simulation.engine import Outcome
from tests.simulation.seeds import assert_all_right, assert_found_out, assert_right
from tests.simulation.sink import run, staged
from tests.simulation.world import NONE, Faults

FAULTS = Faults(trouble=0.04)
ALL = 10_000
FEW = 100
CONTROLS = 1_000  # so many seeds a mutant has at most until it is found out


def by_columns(seed: int) -> bool:
    """Blocks of columns cost the decoder a millisecond each: every tenth world has them."""
    return seed % 10 == 0


def outcomes(seeds: Sequence[int]) -> list[tuple[int, Outcome]]:
    with staged():
        return [(seed, run(seed, FAULTS, columns=by_columns(seed))) for seed in seeds]


def test_some_hundred_seeds_write_each_row_once() -> None:
    first = int.from_bytes(os.urandom(4), "big")
    print(f"seeds {first} to {first + FEW - 1}")
    found = outcomes(range(first, first + FEW))
    assert_right(found)
    kinds = [word.split()[1] for _, outcome in found for word in outcome.story]
    assert {"kill", "stall", "stop"} <= set(kinds), "nothing went wrong in this world"
    assert sum(len(outcome.story) for _, outcome in found) > FEW


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_ten_thousand_seeds_write_each_row_once() -> None:
    assert_all_right(outcomes, ALL)


@pytest.mark.parametrize(
    ("seed", "records", "columns"), [(1, 4, False), *(pytest.param(seed, 16, seed == 2, marks=pytest.mark.long) for seed in range(2, 6))]
)
def test_a_crash_at_every_single_call(seed: int, records: int, columns: bool) -> None:
    with staged():
        calls = run(seed, NONE, records=records, columns=columns).calls
        for at in range(1, calls + 1):
            outcome = run(seed, NONE, records=records, kill_at=at, columns=columns)
            assert not outcome.wrong, f"killed at call {at} of {calls}: {outcome.wrong}"
    print(f"{calls} calls, each the last once")


def test_a_seed_gives_the_same_run_again() -> None:
    with staged():
        assert run(10, FAULTS, columns=True) == run(10, FAULTS, columns=True)


def acknowledged_before_it_is_written() -> AbstractContextManager[Any]:
    """A mutant: offsets are committed while the insert is on its way."""

    def hand_over(self: Pump, job: Job, stop: Flag) -> bool:
        del self, job, stop
        return True

    return mock.patch.object(Pump, "_hand_over", hand_over)


def letters_not_waited_for() -> AbstractContextManager[Any]:
    """A mutant: offsets are committed before the DLQ has what was set aside."""
    return mock.patch.object(DeadLetters, "flush", return_value=None)


def told_complete_too_early() -> AbstractContextManager[Any]:
    """A mutant: a partition is told to be complete to the moment of a look, whatever is left to write."""

    def compare(self: Progress, ends: Mapping[Place, int], asked_at: datetime) -> None:
        for place in ends:
            self._move(place, asked_at)

    return mock.patch.object(Progress, "compare", compare)


@pytest.mark.parametrize("mutant", [acknowledged_before_it_is_written, letters_not_waited_for, told_complete_too_early])
def test_a_broken_sink_is_found_out(mutant: Callable[[], AbstractContextManager[Any]]) -> None:
    assert_found_out(mutant, staged, lambda seed: bool(run(seed, FAULTS).wrong), CONTROLS)
