"""What is asked of many seeded worlds, of the engine and of the sink alike."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

PART = 250  # seeds that a process is given at a time


class Outcome(Protocol):
    """How a world ended."""

    @property
    def wrong(self) -> tuple[str, ...]:
        """What was wrong; empty: nothing."""

    @property
    def calls(self) -> int:
        """How many calls were made."""

    @property
    def story(self) -> tuple[str, ...]:
        """Which faults there were."""


Found = Sequence[tuple[int, Outcome]]


def assert_right(found: Found) -> None:
    """No seed went wrong; else the first of those that did, with their stories."""
    wrong = [(seed, outcome) for seed, outcome in found if outcome.wrong]
    assert not wrong, "\n".join(f"seed {seed}: {'; '.join(outcome.wrong)} after {list(outcome.story)}" for seed, outcome in wrong[:5])


def assert_all_right(outcomes: Callable[[Sequence[int]], Found], count: int) -> None:
    """The same of the seeds from 0 on, on all cores; prints how long it took. `outcomes` is a function of a module."""
    begun, cores = time.monotonic(), os.cpu_count() or 1
    with multiprocessing.get_context("spawn").Pool(cores) as pool:
        found = [one for part in pool.imap_unordered(outcomes, [range(at, at + PART) for at in range(0, count, PART)]) for one in part]
    print(f"{len(found)} seeds in {time.monotonic() - begun:.0f} s on {cores} cores, {sum(one.calls for _, one in found)} calls")
    assert len(found) == count
    assert_right(found)


def assert_found_out(
    mutant: Callable[[], AbstractContextManager[Any]],
    stage: Callable[[], AbstractContextManager[Any]],
    wrong: Callable[[int], bool],
    most: int,
) -> None:
    """A mutant goes wrong with one of the first `most` seeds, with which the program as it is does not."""
    with stage(), mutant():
        seed = next((one for one in range(most) if wrong(one)), None)
    print(f"{mutant.__name__} was found out by seed {seed}")
    assert seed is not None
    with stage():
        assert not wrong(seed), "it is the mutant's fault"
