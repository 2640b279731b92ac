"""The life of a finding: open, changed, resolved, reopened, forgotten; decisions; the model's word inside the bounds."""

from __future__ import annotations

from datetime import timedelta

import pytest

from consumers.assess.deciding import SLOTS
from consumers.assess.memory import RESOLVED_KEPT, load
from consumers.assess.ranking import by_model, rank_of
from infra.core.errors import Poison
from schemas.events.findings import DecisionKind, ExposureEvent, FindingStatus, Rank, ReviewStatus
from schemas.ids import decision_key
from tests.findings import FINDING, START, AssessorBench, answered, decision, exposure

DAY = 86400


def test_open_changed_resolved_reopened_forgotten() -> None:
    bench = AssessorBench()
    opened = bench.one("exposures", exposure())
    assert (opened.status, opened.revision, opened.risk, opened.rank) == (FindingStatus.OPEN, 1, 50, Rank.MEDIUM)
    assert "redis-without-password: base 50 (redis.auth=none)" in opened.rationale
    changed = bench.one("exposures", exposure(ExposureEvent.CHANGED, 2, base_risk=90.0, after=60))
    assert (changed.revision, changed.rank, changed.first_seen, changed.changed_at) == (
        2,
        Rank.CRITICAL,
        START,
        START + timedelta(minutes=1),
    )
    resolved = bench.one("exposures", exposure(ExposureEvent.RESOLVED, 3, after=120))
    assert (resolved.status, resolved.revision, resolved.resolved_at) == (FindingStatus.RESOLVED, 3, START + timedelta(minutes=2))
    assert resolved.places == changed.places
    again = bench.one("exposures", exposure(revision=4, after=180))
    assert (again.status, again.revision, again.reopened, again.resolved_at) == (FindingStatus.OPEN, 4, 1, None)
    assert again.first_seen == START
    bench.feed("exposures", exposure(ExposureEvent.RESOLVED, 5, after=240))
    assert bench.tick(START + timedelta(days=89)) == []
    assert bench.tick(START + timedelta(days=91)) == [None]
    assert bench.tick(START + timedelta(days=92)) == []
    assert not [key for key in bench.state.values if not key.startswith("finding|")]
    back = bench.one("exposures", exposure(revision=6, after=95 * DAY))
    assert (back.revision, back.reopened, back.status) == (6, 0, FindingStatus.OPEN)


def test_duplicates_change_nothing() -> None:
    bench = AssessorBench(model=True)
    bench.feed("exposures", exposure())
    bench.feed("exposures", exposure(ExposureEvent.CHANGED, 2, base_risk=70.0))
    accept = decision(DecisionKind.ACCEPT)
    bench.decide(accept)
    before = dict(bench.state.values)
    assert bench.feed("exposures", exposure()) == []
    assert bench.feed("exposures", exposure(ExposureEvent.CHANGED, 2, base_risk=70.0)) == []
    assert bench.decide(accept) == []
    assert bench.state.values == before


def test_places_are_merged_and_the_worst_speaks() -> None:
    bench = AssessorBench()
    bench.feed("exposures", exposure(address="198.18.0.9"))
    two = bench.one("exposures", exposure(address="198.18.0.8", base_risk=70.0))
    assert [one.address for one in two.places] == ["198.18.0.8", "198.18.0.9"]
    assert two.base_risk == 70
    assert "At 2 places, worst at 198.18.0.8" in two.rationale
    one = bench.one("exposures", exposure(ExposureEvent.RESOLVED, 2, address="198.18.0.8"))
    assert (one.status, one.base_risk, [place.address for place in one.places]) == (FindingStatus.OPEN, 50, ["198.18.0.9"])
    assert bench.one("exposures", exposure(ExposureEvent.RESOLVED, 2, address="198.18.0.9")).status is FindingStatus.RESOLVED


def test_the_order_of_places_does_not_matter() -> None:
    given = [exposure(address=f"198.18.0.{number}", base_risk=50.0 + number % 3, after=number) for number in range(8)]
    ends = []
    for order in (given, given[::-1]):
        bench = AssessorBench()
        for one in order:
            bench.feed("exposures", one)
        ends.append(bench.told[-1])
    assert ends[0] == ends[1]


def test_a_resolved_exposure_that_nobody_knew_tells_nothing() -> None:
    assert AssessorBench().feed("exposures", exposure(ExposureEvent.RESOLVED, 2)) == []


@pytest.mark.parametrize(
    ("kind", "status"),
    [
        (DecisionKind.ACCEPT, FindingStatus.ACCEPTED),
        (DecisionKind.SUPPRESS, FindingStatus.SUPPRESSED),
        (DecisionKind.FALSE_POSITIVE, FindingStatus.FALSE_POSITIVE),
        (DecisionKind.COMMENT, FindingStatus.OPEN),
        (DecisionKind.ASSIGN, FindingStatus.OPEN),
        (DecisionKind.TRUE_POSITIVE, FindingStatus.OPEN),
    ],
)
def test_decisions_set_the_status_and_end(kind: DecisionKind, status: FindingStatus) -> None:
    bench = AssessorBench()
    bench.feed("exposures", exposure())
    ends = START + timedelta(hours=2)
    word = decision(kind, after=60, expires_at=ends, assignee="ben" if kind is DecisionKind.ASSIGN else "")
    (decided,) = bench.decide(word)
    assert decided is not None
    assert decided.status is status
    said = {DecisionKind.COMMENT: (None, "", word), DecisionKind.ASSIGN: (None, "ben", None)}.get(kind, (word, "", None))
    assert (decided.decision, decided.assignee, decided.comment) == said
    assert bench.tick(START + timedelta(hours=1)) == []
    (ended,) = bench.tick(START + timedelta(hours=3))
    assert ended is not None
    assert (ended.status, ended.decision, ended.changed_at) == (FindingStatus.OPEN, None, ends)
    assert (ended.assignee, ended.comment) == ("", None)


def test_a_comment_and_an_assignment_leave_an_acceptance_standing_and_reopen_ends_it() -> None:
    bench = AssessorBench()
    bench.feed("exposures", exposure())
    accept, comment = decision(DecisionKind.ACCEPT, 1), decision(DecisionKind.COMMENT, 2, reason="known")
    bench.decide(accept)
    bench.decide(comment)
    (assigned,) = bench.decide(decision(DecisionKind.ASSIGN, 3, assignee="ben"))
    assert assigned is not None
    assert (assigned.status, assigned.decision, assigned.assignee, assigned.comment) == (FindingStatus.ACCEPTED, accept, "ben", comment)
    reopen = decision(DecisionKind.REOPEN, 4)
    (reopened,) = bench.decide(reopen)
    assert reopened is not None
    assert (reopened.status, reopened.decision, reopened.assignee, reopened.comment) == (FindingStatus.OPEN, reopen, "ben", comment)


def test_what_was_said_stays_with_a_finding_that_resolves_and_comes_back() -> None:
    bench = AssessorBench()
    bench.feed("exposures", exposure())
    accept = decision(DecisionKind.ACCEPT, 1)
    bench.decide(accept)
    bench.decide(decision(DecisionKind.ASSIGN, 2, assignee="ben"))
    resolved = bench.one("exposures", exposure(ExposureEvent.RESOLVED, 2))
    assert (resolved.status, resolved.decision, resolved.assignee) == (FindingStatus.RESOLVED, accept, "ben")
    back = bench.one("exposures", exposure(ExposureEvent.OPENED, 3))
    assert (back.status, back.decision, back.assignee) == (FindingStatus.ACCEPTED, accept, "ben")


def test_an_edit_moves_the_risk_within_the_bounds() -> None:
    bench = AssessorBench()
    bench.feed("exposures", exposure())
    (edited,) = bench.decide(decision(DecisionKind.EDIT, risk=5.0))
    assert edited is not None
    assert (edited.risk, edited.rank) == (30, Rank.LOW)
    assert "ana set the risk to 30." in edited.rationale


def test_an_edit_ends_with_its_time() -> None:
    bench = AssessorBench()
    bench.feed("exposures", exposure())
    bench.decide(decision(DecisionKind.EDIT, risk=80.0, expires_at=START + timedelta(hours=1)))
    (ended,) = bench.tick(START + timedelta(hours=2))
    assert ended is not None
    assert (ended.risk, ended.decision) == (50, None)


def test_a_resolved_finding_stays_resolved_whatever_is_decided() -> None:
    bench = AssessorBench()
    bench.feed("exposures", exposure())
    bench.feed("exposures", exposure(ExposureEvent.RESOLVED, 2))
    (decided,) = bench.decide(decision(DecisionKind.REOPEN))
    assert decided is not None
    assert decided.status is FindingStatus.RESOLVED


def test_decisions_on_unknown_findings_wait_for_them() -> None:
    bench = AssessorBench()
    assert bench.decide(decision(DecisionKind.FALSE_POSITIVE)) == []
    assert bench.one("exposures", exposure()).status is FindingStatus.FALSE_POSITIVE
    assert bench.feed("decisions", decision(DecisionKind.FALSE_POSITIVE), FINDING) == []
    (withdrawn,) = bench.feed("decisions", None, FINDING)
    assert withdrawn is not None
    assert (withdrawn.status, withdrawn.decision) == (FindingStatus.OPEN, None)


def test_without_a_model_no_review_is_asked_for() -> None:
    assert AssessorBench().one("exposures", exposure()).review.status is ReviewStatus.NONE


def test_a_review_is_asked_for_and_taken_within_the_bounds() -> None:
    bench = AssessorBench(model=True)
    opened = bench.one("exposures", exposure())
    assert (opened.review.status, opened.risk) == (ReviewStatus.PENDING, 50)
    reviewed = bench.one("exchanges", answered(opened, risk=99.0))
    assert (reviewed.review.status, reviewed.risk, reviewed.rank) == (ReviewStatus.DONE, 84.9, Rank.HIGH)
    assert "The model openai:m moved the risk to 84.9." in reviewed.rationale
    assert bench.feed("exchanges", answered(opened, risk=30.0)) == []
    renamed = bench.one("exposures", exposure(ExposureEvent.CHANGED, 2, address="198.18.0.8"))
    assert (renamed.review.status, renamed.risk) == (ReviewStatus.DONE, 84.9)
    changed = bench.one("exposures", exposure(ExposureEvent.CHANGED, 3, base_risk=55.0))
    assert (changed.review.status, changed.risk) == (ReviewStatus.PENDING, 55)
    assert bench.feed("exchanges", answered(opened)) == []


def test_a_model_that_is_down_leaves_the_finding_as_it_is_and_says_so() -> None:
    bench = AssessorBench(model=True)
    opened = bench.one("exposures", exposure())
    failed = bench.one("exchanges", answered(opened, ok=False, risk=None, explanation="", error="no answer within 30 s"))
    assert (failed.review.status, failed.risk, failed.rank) == (ReviewStatus.FAILED, 50, Rank.MEDIUM)
    assert failed.review.note == "No review: no answer within 30 s. The finding stands as the rules wrote it."


def test_a_persons_word_beats_the_models() -> None:
    bench = AssessorBench(model=True)
    opened = bench.one("exposures", exposure())
    bench.feed("exchanges", answered(opened, risk=80.0))
    (edited,) = bench.decide(decision(DecisionKind.EDIT, risk=35.0))
    assert edited is not None
    assert edited.risk == 35


def test_little_and_decided_findings_are_not_reviewed() -> None:
    bench = AssessorBench(model=True)
    assert bench.one("exposures", exposure(base_risk=10.0, floor=0.0)).review.status is ReviewStatus.NONE
    other = AssessorBench(model=True)
    other.decide(decision(DecisionKind.SUPPRESS))
    assert other.one("exposures", exposure()).review.status is ReviewStatus.NONE


@pytest.mark.parametrize(
    ("risk", "rank"),
    [
        (100, "critical"),
        (85, "critical"),
        (84.9, "high"),
        (65, "high"),
        (64.9, "medium"),
        (40, "medium"),
        (15, "low"),
        (14.9, "info"),
        (0, "info"),
    ],
)
def test_ranks(risk: float, rank: str) -> None:
    assert rank_of(risk) == rank


@pytest.mark.parametrize(("base", "most"), [(5, 39.9), (20, 64.9), (50, 84.9), (70, 95), (90, 95)])
def test_a_model_moves_a_risk_by_one_rank_at_most(base: float, most: float) -> None:
    assert by_model(100, base, 0, 95) == most
    assert by_model(float("nan"), base, 0, 95) == most
    assert by_model(-3, base, 2, 95) == 2


def test_what_is_no_input_is_poison() -> None:
    with pytest.raises(Poison):
        AssessorBench().feed("exposures", None)


def test_an_acceptance_and_a_comment_do_not_overwrite_each_other() -> None:
    """Both were written before the finding was there, so that only what stands in the compacted topic is seen."""
    bench = AssessorBench()
    for word in (decision(DecisionKind.ACCEPT, 1, 1), decision(DecisionKind.COMMENT, 2, 2), decision(DecisionKind.EDIT, 3, 3, risk=80.0)):
        bench.feed("decisions", word, decision_key(word))
    opened = bench.one("exposures", exposure(after=10))
    assert opened.decision is not None
    assert (opened.status, opened.risk, opened.decision.decision_id) == (FindingStatus.ACCEPTED, 80, "d3")


def test_every_kind_of_decision_is_found_under_its_key() -> None:
    keys = {kind: decision_key(decision(kind)) for kind in DecisionKind}
    assert set(keys.values()) == {f"{FINDING}{slot}" for slot in SLOTS if slot}
    standing = {kind.value for kind, key in keys.items() if key == f"{FINDING}|standing"}
    assert standing == {"accept", "suppress", "false_positive", "true_positive", "reopen"}


def test_a_deleted_record_takes_its_own_decision_along_and_no_other() -> None:
    bench = AssessorBench()
    bench.feed("exposures", exposure())
    accept, edit = decision(DecisionKind.ACCEPT, 1, 1), decision(DecisionKind.EDIT, 2, 2, risk=80.0)
    for word in (accept, edit):
        bench.feed("decisions", word, decision_key(word))
    one = bench.one("decisions", None, decision_key(edit))
    assert one.decision is not None
    assert (one.status, one.risk, one.decision.decision_id) == (FindingStatus.ACCEPTED, 50, "d1")
    two = bench.one("decisions", None, decision_key(accept))
    assert (two.status, two.decision) == (FindingStatus.OPEN, None)


def test_records_handed_over_after_the_table_was_read_end_as_the_log_does() -> None:
    bench = AssessorBench()
    accept, suppress = decision(DecisionKind.ACCEPT, 1, 1), decision(DecisionKind.SUPPRESS, 2, 2)
    bench.decisions[decision_key(suppress)] = suppress
    assert bench.one("exposures", exposure(after=10)).status is FindingStatus.SUPPRESSED
    bench.feed("decisions", accept, decision_key(accept))
    assert bench.one("decisions", suppress, decision_key(suppress)).status is FindingStatus.SUPPRESSED


def test_a_certificate_that_wanders_through_a_cloud_does_not_grow_for_ever() -> None:
    bench = AssessorBench()
    bench.feed("exposures", exposure())
    for number in range(RESOLVED_KEPT + 50):
        address = f"198.18.{1 + number // 250}.{number % 250}"
        bench.feed("exposures", exposure(address=address, after=number))
        bench.feed("exposures", exposure(ExposureEvent.RESOLVED, 2, address=address, after=number + 0.5))
    memory = load(bench.state, FINDING)
    assert memory is not None
    assert len(memory.places) == RESOLVED_KEPT + 1
    last = exposure(ExposureEvent.OPENED, 1, address="198.18.1.149", after=0)
    assert bench.feed("exposures", last) == []
    assert len(memory.open_places()) == 1
