"""The clock that does not jump, and that nothing which folds records reads any clock."""

from __future__ import annotations

import ast
from datetime import UTC, datetime, timedelta
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from infra.core.clock import AGREES, SetBack, SteadyClock

START = datetime(2026, 3, 4, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]
FOLDS = ("schemas", "processors/diff", "processors/correlate", "processors/enrich", "processors/plan", "consumers/assess")
MAY_READ = {
    "processors/plan/resolving.py",
    "consumers/assess/reviewer.py",
    "consumers/assess/review.py",
    "consumers/assess/budget.py",
    "consumers/assess/chat.py",
    "consumers/assess/stored.py",
    "processors/enrich/recog.py",
}
"""Limits of DNS, of the model (what the last hour was spent, when a server wants to be asked again) and of reading patterns, and when a
question was asked, which stands in the answer's record."""


class Machine:
    """A wall clock that can be set, and the seconds that pass."""

    def __init__(self) -> None:
        self.passed, self.set_by = 0.0, 0.0

    def wall(self) -> datetime:
        return self.truth() + timedelta(seconds=self.set_by)

    def seconds(self) -> float:
        return self.passed

    def truth(self) -> datetime:
        return START + timedelta(seconds=self.passed)


@given(st.lists(st.tuples(st.floats(0, 600), st.floats(-7200, 7200), st.booleans()), max_size=30))
def test_it_stays_near_the_truth_whatever_the_wall_clock_does(steps: list[tuple[float, float, bool]]) -> None:
    machine = Machine()
    clock = SteadyClock(machine.wall, machine.seconds)
    for seconds, set_by, beats in steps:
        machine.passed += seconds
        machine.set_by = set_by
        if beats:
            ahead = clock.heard(machine.wall(), machine.truth())
            assert abs(ahead - timedelta(seconds=set_by)) < timedelta(milliseconds=1)
        assert abs(clock.now() - machine.truth()) <= AGREES


def test_a_machine_that_started_with_a_wrong_clock_follows_when_it_is_put_right() -> None:
    machine = Machine()
    machine.set_by = -3600
    clock = SteadyClock(machine.wall, machine.seconds)
    clock.heard(machine.wall(), machine.truth())
    assert clock.now() == machine.truth() - timedelta(hours=1)
    machine.set_by = 0
    clock.heard(machine.wall(), machine.truth())
    assert clock.now() == machine.truth()


def test_kafka_s_time_alone_moves_nothing() -> None:
    machine = Machine()
    clock = SteadyClock(machine.wall, machine.seconds)
    clock.heard(machine.wall(), machine.truth() - timedelta(hours=1))
    assert clock.now() == machine.truth()


def test_a_jump_between_sending_and_hearing_is_no_agreement() -> None:
    machine = Machine()
    clock = SteadyClock(machine.wall, machine.seconds)
    sent = machine.wall()
    machine.set_by = 3600
    clock.heard(sent, sent + timedelta(minutes=30))
    assert clock.now() == machine.truth()


def test_a_clock_that_was_set_back_is_noticed_once() -> None:
    machine = Machine()
    watch = SetBack(machine.wall, machine.seconds)
    for machine.set_by, noticed in ((0, None), (3600, None), (3599, None), (-1, 3600), (-1, None)):
        machine.passed += 1
        seen = watch.seen()
        assert (seen and round(seen.total_seconds())) == noticed


def test_nothing_that_folds_records_reads_a_clock() -> None:
    found = set()
    for folder in FOLDS:
        for path in (ROOT / folder).rglob("*.py"):
            names = {ast.unparse(node.func) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call)}
            if names & {"datetime.now", "datetime.utcnow", "date.today", "utc_now"} or any(name.startswith("time.") for name in names):
                found.add(str(path.relative_to(ROOT)))
    assert found <= MAY_READ
    assert found, "the search finds nothing at all"
