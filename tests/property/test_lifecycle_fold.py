"""Any history of exposures, decisions, answers and ticks: revisions grow by one, nothing is told twice, duplicates do nothing."""

from __future__ import annotations

import itertools
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from schemas.events.base import Event
from schemas.events.findings import DecisionKind, ExposureEvent, Finding, FindingStatus, ReviewStatus
from tests.findings import START, AssessorBench, answered, decision, exposure

Step = tuple[str, int, int]
steps = st.lists(st.tuples(st.sampled_from(["exposure", "decision", "answer", "tick"]), st.integers(0, 2), st.integers(0, 99)), max_size=25)


def play(history: list[Step], twice: bool) -> tuple[list[Finding | None], dict[str, bytes]]:
    """The revisions told and the state at the end; each record once, or (`twice`) each two times in a row."""
    bench, revisions, standing = AssessorBench(model=True), [0, 0, 0], [False, False, False]
    for number, (what, place, value) in enumerate(history):
        at = START + timedelta(hours=number * 30)
        after = number * 30 * 3600.0
        topic, key = "ticks", ""
        event: Event | None = None
        if what == "exposure":
            revisions[place] += 1
            gone = standing[place] and value % 2 == 0
            kind = ExposureEvent.RESOLVED if gone else ExposureEvent.CHANGED if standing[place] else ExposureEvent.OPENED
            standing[place] = not gone
            base = 30.0 + value % 60
            topic, event = "exposures", exposure(kind, revisions[place], f"198.18.0.{place}", after, base_risk=base)
        elif what == "decision":
            kinds = list(DecisionKind)
            ends = at + timedelta(hours=value) if value % 2 else None
            made = decision(kinds[value % len(kinds)], number, after, risk=float(value), expires_at=ends)
            topic, event, key = "decisions", made, made.finding_id
        elif what == "answer":
            last = next((one for one in reversed(bench.told) if one is not None), None)
            if last is None:
                continue
            topic, event = "exchanges", answered(last, after, ok=bool(place), risk=float(value))
        for _ in range(2 if twice else 1):
            feed_one(bench, topic, event, key, number)
    return bench.told, bench.state.values


def feed_one(bench: AssessorBench, topic: str, event: Event | None, key: str, number: int) -> None:
    at = START + timedelta(hours=number * 30)
    if topic == "ticks":
        bench.tick(at)
    else:
        bench.feed(topic, event, key, at)


@given(steps)
def test_revisions_and_bounds(history: list[Step]) -> None:
    told, _ = play(history, twice=False)
    findings = [one for one in told if one is not None]
    assert [one.revision for one in findings] == list(range(1, len(findings) + 1))
    for one in findings:
        assert one.floor <= one.base_risk <= one.ceiling
        assert one.floor <= one.risk <= one.ceiling
        assert (one.status is FindingStatus.RESOLVED) == (one.resolved_at is not None)
        assert one.review.status is not ReviewStatus.PENDING or one.review.content_hash
    for before, after in itertools.pairwise(findings):
        assert after.changed_at >= before.changed_at
        assert after.model_copy(update={"revision": 0, "changed_at": START}) != before.model_copy(
            update={"revision": 0, "changed_at": START}
        )


@given(steps)
def test_every_record_twice_is_every_record_once(history: list[Step]) -> None:
    assert play(history, twice=True) == play(history, twice=False)
