"""`make bench-rules`: how well SSVC is derived where CISA did not decide, and how early the ranking names what is attacked later.

Agreement: of CVE records that hold CISA's decisions, the ADP containers are taken out, the points are derived from what is left and from
KEV, and held against CISA's own; agreement with Wilson's interval, Cohen's kappa with linear weights and its bootstrap interval.

Ranking: of the CVEs that were published before a cut and stood in no KEV then, those that entered it later are to be found: the share of
them in the top 5, 10 and 20 % of each order, made of what is known before the cut without ADP containers and KEV. Ties count by their
expected share. Peers: CVSS, EPSS, and Vulnerability Management Chaining (arXiv:2506.01220): CVSS ≥ 7 and EPSS ≥ 0.088, or KEV, first.
"""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from bench.report import Bar, tell
from bench.rules_agreement import Agreement, Interval, agreements
from bench.rules_ranking import CHAIN, CVSS, EPSS, OURS, TOPS, ranking
from bench.rules_records import cases, listed, scored
from producers.intel.statements import FeedError
from schemas.plain import milliseconds

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"
SUBSTANTIAL = 0.61
"""Kappa from here on is called substantial agreement (Landis and Koch, Biometrics 33, 1977)."""


LIMITS = (
    "{no_vector} of {records} records have no CVSS vector outside the ADP container: two points are then unknown, and count as the worse.",
    "CISA knows {poc_by_cisa} proofs of concept, of which KEV and most vectors tell nothing.",
    "Without EPSS, exploitation of what KEV does not list is unknown and counts as poc, where CISA mostly says none.",
    "{exploit_by_vector_but_none_by_cisa} vectors say that an exploit exists (E:P, E:F, E:H) where CISA says none: it may not be public.",
    "KEV is of a later day than CISA's decisions: {in_kev_but_none_by_cisa} entered it after.",
    "{easy_but_not_automatable_by_cisa} are easy by vector, not automatable for CISA; {not_easy_but_automatable_by_cisa} the reverse.",
    "{full_but_partial_by_cisa} have full impact by vector, partial for CISA; {not_full_but_total_by_cisa} the reverse.",
    "Stolen credentials are total impact for SSVC, and confidentiality alone for CVSS.",
)


def main() -> None:
    """Run the benchmark and print what it measured."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cve", type=Path, default=SHARED / "cve-sample.jsonl.gz", help="CVE records as of the cut: file, folder or zip")
    parser.add_argument("--kev", type=Path, default=SHARED / "kev-2025-01.json.gz", help="a KEV catalogue of long after the cut")
    parser.add_argument("--epss", type=Path, help="the EPSS scores of the day of the cut; without it EPSS takes no part")
    parser.add_argument("--cut", type=datetime.fromisoformat, default=datetime(2024, 1, 1), help="the day of the cut (UTC)")  # noqa: DTZ001
    chosen = parser.parse_args()
    try:
        found, kev = list(cases(chosen.cve)), listed(chosen.kev)
        found = scored(found, chosen.epss) if chosen.epss else found
    except (FeedError, OSError) as error:
        sys.exit(f"The files can't be read: {error}.")
    agreed, limits = agreements(found, kev)
    cut = milliseconds(chosen.cut.replace(tzinfo=UTC))
    shares, counts = ranking(found, kev, cut)
    console = Console(width=140, highlight=False)
    console.print(agreement_table(agreed), *in_words(limits), sep="\n")
    console.print(ranking_table(shares, counts, f"{chosen.cut:%Y-%m-%d}"), *remarks(counts, bool(chosen.epss)), sep="\n")
    figures = {
        "agreement": [
            {"point": one.point, "counted": one.counted, "n": one.n, "share": rounded(one.share), "weighted_kappa": rounded(one.kappa)}
            for one in agreed
        ],
        "limits": limits,
        "cut": f"{chosen.cut:%Y-%m-%d}",
        **counts,
        "ranking": {order: {top: rounded(share) for top, share in tops.items()} for order, tops in shares.items()},
    }
    tell("rules", figures, bars(agreed, shares))


def bars(agreed: list[Agreement], shares: dict[str, dict[str, Interval]]) -> list[Bar]:
    """Agreement on each point as far as it can be derived without EPSS; and our top tenth against each peer's."""
    counted = {"exploitation": "not in KEV as none", "automatable": "where it was derived", "technical-impact": "where it was derived"}
    found = [
        Bar(f"weighted kappa, {one.point}, {one.counted} (n {one.n})", round(one.kappa[0], 3), "at_least", SUBSTANTIAL)
        for one in agreed
        if one.kappa and counted.get(one.point) == one.counted
    ]
    for peer in (CVSS, EPSS, CHAIN):
        measured = shares[OURS]["top 10%"][0] if peer in shares else None
        found.append(Bar(f"share in our top 10 %, against {peer}", measured, "at_least", shares.get(peer, {}).get("top 10%", (0.0,))[0]))
    return found


def agreement_table(agreed: list[Agreement]) -> Table:
    """A line a point and way of counting."""
    table = Table(title="SSVC derived without ADP containers, against CISA's own", title_justify="left")
    for name in ("point", "counted", "n", "agreement", "weighted kappa"):
        table.add_column(name)
    for one in agreed:
        kappa = shown(one.kappa, 2) if one.kappa else "– (one value alone)"
        table.add_row(one.point, one.counted, str(one.n), shown(one.share, 3), kappa)
    return table


def in_words(limits: dict[str, int]) -> list[str]:
    """What limits the agreement."""
    return ["What limits it:", *(f"- {words.format(**limits)}" for words in LIMITS)]


def ranking_table(shares: dict[str, dict[str, Interval]], counts: dict[str, int], cut: str) -> Table:
    """A line an order."""
    title = f"{counts['ranked']} CVEs that no KEV listed on {cut}; {counts['entered_kev']} entered it later. Share of them in the top:"
    table = Table(title=title, title_justify="left")
    for name in ("order", *(f"{top:.0%}" for top in TOPS)):
        table.add_column(name)
    for order, tops in shares.items():
        table.add_row(order, *(shown(one, 2) for one in tops.values()))
    return table


def remarks(counts: dict[str, int], with_epss: bool) -> list[str]:
    """What must be known to read the table."""
    late = counts["of_them_published_after_the_cut"]
    found = [f"n is {counts['entered_kev']}: the intervals say how little that shows."] if counts["entered_kev"] < 100 else []
    if late:
        found.append(f"{late} of them were published after the cut: the records are of a later day, and what they say was known later too.")
    if not with_epss:
        found.append(
            "EPSS alone and the chain are left out: no scores of the day of the cut were given (--epss); made-up ones show nothing."
        )
    return found


def shown(one: Interval, digits: int) -> str:
    """A figure with its interval."""
    return f"{one[0]:.{digits}f}  [{one[1]:.{digits}f}, {one[2]:.{digits}f}]".replace("[", "(").replace("]", ")")


def rounded(one: Interval | None) -> list[float] | None:
    """For JSON."""
    return None if one is None else [round(value, 4) for value in one]


if __name__ == "__main__":
    main()
