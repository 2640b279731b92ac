"""Of which findings a webhook is told, and when. Pure.

A finding calls for attention while it is open, of the webhook's rank, rules and zones, and not of the baseline. It is told when that
begins (raised), when its rank rises (worse) and when it ends (over: resolved, accepted, suppressed, false, or of a lower rank).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from pydantic import BaseModel, ConfigDict

from infra.core.notifier_settings import Webhook
from schemas.events.findings import Finding, FindingStatus, Page, PageKind, Rank
from schemas.ids import content_id

URGENCY = {rank: len(Rank) - number for number, rank in enumerate(Rank)}
"""Ranks as numbers, the higher the more urgent."""


class Told(BaseModel):
    """What webhooks were told of one finding: its last revision that was looked at, and by webhook the rank that stands there."""

    model_config = ConfigDict(extra="ignore")

    revision: int = 0
    ranks: dict[str, Rank] = {}


def calls(webhook: Webhook, finding: Finding) -> bool:
    """Whether a finding calls for attention at this webhook."""
    return (
        finding.status is FindingStatus.OPEN
        and URGENCY[finding.rank] >= URGENCY[Rank(webhook.min_rank)]
        and (not webhook.rules or any(fnmatchcase(finding.rule, pattern) for pattern in webhook.rules))
        and (not webhook.zones or finding.zone in webhook.zones)
        and (webhook.baseline or not finding.baseline)
    )


def pages(webhooks: Iterable[Webhook], finding: Finding, told: Told) -> tuple[list[Page], Told]:
    """What to tell of a revision, and what was told then. A revision that was looked at already tells nothing."""
    if finding.revision <= told.revision:
        return [], told
    found, ranks = list[Page](), dict[str, Rank]()
    for webhook in webhooks:
        before, calling = told.ranks.get(webhook.name), calls(webhook, finding)
        if calling:
            ranks[webhook.name] = finding.rank
        kind = _kind(before, finding.rank if calling else None)
        if kind is not None:
            page_id = content_id("page", webhook.name, finding.finding_id, finding.revision, kind.value)
            found.append(Page(page_id=page_id, webhook=webhook.name, kind=kind, finding=finding))
    return found, Told(revision=finding.revision, ranks=ranks)


def _kind(before: Rank | None, now: Rank | None) -> PageKind | None:
    if now is None:
        return None if before is None else PageKind.OVER
    if before is None:
        return PageKind.RAISED
    return PageKind.WORSE if URGENCY[now] > URGENCY[before] else None


def latest(told: Iterable[Page]) -> Iterator[Page]:
    """Of each finding the last page, most urgent first: what is sent of many at once."""
    last = {page.finding.finding_id: page for page in told}
    yield from sorted(last.values(), key=lambda page: (page.kind is PageKind.OVER, -page.finding.risk, page.finding.finding_id))
