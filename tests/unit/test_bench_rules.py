"""The figures of `bench-rules`: kappa and Wilson's interval against published examples, ties, and what may not be looked at."""

from __future__ import annotations

import pytest

from bench.rules_agreement import kappa, wilson
from bench.rules_ranking import CHAIN, CVSS, EPSS, OURS, ranking, share_in_top, without_labels
from bench.rules_records import Case
from schemas.events.intel import IntelRecord
from schemas.plain import EPOCH


def case(number: int, published: int = 0, **over: object) -> Case:
    return Case(IntelRecord(cve=f"CVE-2023-{number:04}", as_of=EPOCH).model_copy(update=over), ("", "", ""), published)


def test_kappa_of_two_raters() -> None:
    pairs = [("yes", "yes")] * 20 + [("yes", "no")] * 5 + [("no", "yes")] * 10 + [("no", "no")] * 15
    assert kappa(pairs, ("no", "yes")) == pytest.approx(0.4)  # the standard example: 0.7 seen, 0.5 by chance
    assert kappa([("yes", "yes")] * 3, ("no", "yes")) is None


def test_weights_forgive_what_is_near() -> None:
    scale, rest = ("none", "poc", "active"), [(one, one) for one in ("none", "poc", "active")] * 5
    near, far = kappa([*rest, ("poc", "active")], scale), kappa([*rest, ("none", "active")], scale)
    assert near is not None
    assert far is not None
    assert far < near < 1


def test_wilson() -> None:
    assert wilson(1, 10) == pytest.approx((0.1, 0.0179, 0.4042), abs=1e-3)
    assert wilson(0, 0) == (0.0, 0.0, 1.0)


def test_ties_count_by_their_expected_share() -> None:
    rows = [((1.0,), number == 0) for number in range(10)]
    hits, sought = share_in_top(rows, 0.2)
    assert (hits, sought) == (0.2, 1)
    assert share_in_top([((2.0,), True), *rows], 0.2)[0] == pytest.approx(1 + 1.2 / 10)


def test_what_was_listed_before_the_cut_is_not_ranked_and_labels_are_not_seen() -> None:
    found = [case(number, cvss=number / 10, cvss_vector="CVSS:3.1/AV:N/E:H") for number in range(100)]
    kev = {"CVE-2023-0099": 5, "CVE-2023-0098": 20}
    table, counts = ranking(found, kev, cut=10)
    assert counts == {"ranked": 99, "entered_kev": 1, "of_them_published_after_the_cut": 0}
    assert set(table) == {OURS, CVSS}
    assert table[CVSS]["top 5%"][0] == 1
    assert without_labels(found[0].bare).cvss_vector == "CVSS:3.1/AV:N"


def test_epss_and_the_chain_take_part_where_there_are_scores() -> None:
    found = [case(number, cvss=9.0, epss=number / 100, epss_percentile=number / 100) for number in range(100)]
    table, _ = ranking(found, {"CVE-2023-0099": 20, "CVE-2023-0001": 20}, cut=10)
    assert set(table) == {OURS, CVSS, EPSS, CHAIN}
    assert table[EPSS]["top 5%"][0] == pytest.approx(0.5)
    assert table[CVSS]["top 20%"][0] == pytest.approx(0.2)
    assert table[OURS]["top 5%"][0] == pytest.approx(0.5)
