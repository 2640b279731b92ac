"""The 1,200 real records: a version inside and one outside of each, made by a referee that knows nothing of the matcher."""

from __future__ import annotations

import pytest

from bench.match import Judged, judged
from tests.match_cases import SAMPLE

pytestmark = pytest.mark.skipif(not SAMPLE.exists(), reason="the sample of CVE records is not beside this checkout (shared/data)")


@pytest.fixture(scope="module")
def found() -> Judged:
    return judged()


def test_verdicts_are_right_for_99_of_100(found: Judged) -> None:
    wrong = "\n".join(f"{case.cve} {case.version}: {verdict.reason if verdict else 'no match'}" for case, verdict in found.wrong)
    assert found.share >= 0.99, wrong


def test_at_the_ends_of_ranges_too(found: Judged) -> None:
    assert found.all_right / (found.all_right + len(found.all_wrong)) >= 0.99


def test_most_records_are_judged_and_the_others_named(found: Judged) -> None:
    assert found.records >= 1000
    assert found.records + len(found.left_out) == 1200
    assert all(why for _, why in found.left_out)
