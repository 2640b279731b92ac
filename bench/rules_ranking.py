"""How early orders of CVEs name those that are attacked later."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby

from bench.rules_agreement import Interval, wilson
from bench.rules_records import Case
from processors.correlate.ssvc import EPSS_POC, mission
from processors.correlate.urgency import urgency
from schemas.events.intel import IntelRecord

TOPS = (0.05, 0.10, 0.20)
OURS, CVSS, EPSS, CHAIN = "ours", "CVSS alone", "EPSS alone", "chain of KEV, EPSS and CVSS"


def without_labels(one: IntelRecord) -> IntelRecord:
    """The record without what its own vector says of exploits."""
    parts = [part for part in one.cvss_vector.split("/") if not part.startswith("E:")]
    return one.model_copy(update={"cvss_vector": "/".join(parts)})


def place(order: str, one: IntelRecord) -> tuple[float, ...]:
    """What an order sorts by, the highest first. An unknown score stands last, as it does where people sort by it."""
    cvss, epss = (-1.0 if value is None else value for value in (one.cvss, one.epss))
    if order == OURS:
        return (urgency(one, mission(None)).base,)
    if order == CVSS:
        return (cvss,)
    if order == EPSS:
        return (epss,)
    return (float(cvss >= 7 and epss >= EPSS_POC), cvss)


def share_in_top(ranked: Iterable[tuple[tuple[float, ...], bool]], top: float) -> tuple[float, int]:
    """Expected number of those sought in the top share of an order, ties broken by chance; and how many are sought."""
    rows = sorted(ranked, key=lambda one: one[0], reverse=True)
    left, hits = top * len(rows), 0.0
    for _, group in groupby(rows, key=lambda one: one[0]):
        tied = [sought for _, sought in group]
        hits += sum(tied) * min(1.0, max(0.0, left / len(tied)))
        left -= len(tied)
    return hits, sum(sought for _, sought in rows)


def ranking(found: Sequence[Case], kev: dict[str, int], cut: int) -> tuple[dict[str, dict[str, Interval]], dict[str, int]]:
    """By order and top share: the share of those that entered KEV after the cut; and how many there were of what."""
    bare = [(without_labels(one.bare), one.published) for one in found if kev.get(one.bare.cve, cut + 1) > cut]
    sought = {one.cve for one, _ in bare if one.cve in kev}
    late = sum(one.cve in sought and published is not None and published > cut for one, published in bare)
    table: dict[str, dict[str, Interval]] = {}
    with_epss = any(one.epss is not None for one, _ in bare)
    for order in (OURS, CVSS, EPSS, CHAIN) if with_epss else (OURS, CVSS):
        ranked = [(place(order, one), one.cve in sought) for one, _ in bare]
        table[order] = {f"top {top:.0%}": wilson(*share_in_top(ranked, top)) for top in TOPS}
    return table, {"ranked": len(bare), "entered_kev": len(sought), "of_them_published_after_the_cut": late}
