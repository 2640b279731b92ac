"""When a webhook is told of a finding."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from consumers.notify.paging import URGENCY, Told, calls, pages
from consumers.notify.role import Notifier
from infra.core.notifier_settings import Webhook
from infra.core.ports import Context, FixedTables, MemoryState, Record
from schemas.events.findings import Finding, FindingStatus, Page, PageKind, Rank
from tests.findings import START
from tests.unit.test_webhook_message import FINDING, SECRET

HOOK = Webhook(name="soc", url="https://soc.test/", secret=SecretStr(SECRET))


def finding(revision: int = 1, **over: Any) -> Finding:
    plain = {"status": FindingStatus.OPEN, "rank": Rank.HIGH, "baseline": False, "zone": "default", "rule": "redis-without-password"}
    return FINDING.model_copy(update={**plain, "revision": revision, **over})


@pytest.mark.parametrize(
    ("hook", "over", "expected"),
    [
        ({}, {}, True),
        ({}, {"rank": Rank.MEDIUM}, False),
        ({"min_rank": "low"}, {"rank": Rank.LOW}, True),
        ({}, {"baseline": True}, False),
        ({"baseline": True}, {"baseline": True}, True),
        ({"rules": ("redis-*",)}, {}, True),
        ({"rules": ("certificate-*",)}, {}, False),
        ({"zones": ("dmz",)}, {}, False),
        ({"zones": ("dmz", "default")}, {}, True),
        *(({}, {"status": status}, status is FindingStatus.OPEN) for status in FindingStatus),
    ],
)
def test_what_calls_for_attention(hook: dict[str, Any], over: dict[str, Any], expected: bool) -> None:
    assert calls(HOOK.model_copy(update=hook), finding(**over)) is expected


def told_of(revisions: list[Finding]) -> list[PageKind]:
    told, found = Told(), list[PageKind]()
    for one in revisions:
        new, told = pages((HOOK,), one, told)
        found += [page.kind for page in new]
    return found


def test_told_when_it_begins_gets_worse_and_ends() -> None:
    told = told_of(
        [
            finding(1, rank=Rank.MEDIUM),
            finding(2),
            finding(3, assignee="ann"),
            finding(4, rank=Rank.CRITICAL),
            finding(5),
            finding(6, rank=Rank.CRITICAL),
            finding(7, status=FindingStatus.RESOLVED),
            finding(8, status=FindingStatus.RESOLVED, comment=None),
            finding(9, reopened=1),
        ]
    )
    assert told == [PageKind.RAISED, PageKind.WORSE, PageKind.WORSE, PageKind.OVER, PageKind.RAISED]


def test_nobody_is_paged_for_the_baseline_until_it_is_known_to_be_exploited() -> None:
    assert told_of([finding(1, baseline=True), finding(2, baseline=True, rank=Rank.CRITICAL)]) == []
    assert told_of([finding(1, baseline=True), finding(2)]) == [PageKind.RAISED]


revisions = st.lists(
    st.builds(lambda **over: over, status=st.sampled_from(FindingStatus), rank=st.sampled_from(Rank), baseline=st.booleans()), max_size=12
)


@given(revisions, st.data())
def test_what_is_read_twice_is_told_once_and_words_alternate(script: list[dict[str, Any]], data: st.DataObject) -> None:
    made = [finding(number, **over) for number, over in enumerate(script, 1)]
    twice = [copy for one in made for copy in [one] * data.draw(st.integers(1, 2))]
    told = told_of(made)
    assert told_of(twice) == told
    states = [kind for kind in told if kind is not PageKind.WORSE]
    assert states == [PageKind.RAISED if number % 2 == 0 else PageKind.OVER for number in range(len(states))]
    assert (states[-1:] == [PageKind.RAISED]) == bool(made and calls(HOOK, made[-1]))


def test_ranks_are_ordered() -> None:
    assert sorted(Rank, key=lambda rank: -URGENCY[rank]) == [Rank.CRITICAL, Rank.HIGH, Rank.MEDIUM, Rank.LOW, Rank.INFO]


def test_the_step_tells_pages_beside_ocsf_and_forgets_with_the_finding() -> None:
    state, step = MemoryState(), Notifier((HOOK,))
    context = Context(0, 4, state, FixedTables())
    key = FINDING.finding_id

    def handle(event: Finding | None) -> list[str]:
        emits = list(step.handle(Record("findings", 0, 0, START, key, event), context))
        assert all(one.partition == 0 for one in emits if isinstance(one.event, Page))
        return [one.topic for one in emits]

    assert handle(finding()) == ["findings.ocsf", "pages"]
    assert handle(finding()) == ["findings.ocsf"]
    assert handle(None) == ["findings.ocsf"]
    assert state.values == {}
