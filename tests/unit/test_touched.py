"""Moments in the past as people type them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from infra.core.errors import BadInput
from producers.grants.wording import parse_past

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("-1h", NOW - timedelta(hours=1)),
        ("90s ago", NOW - timedelta(seconds=90)),
        ("2d", NOW - timedelta(days=2)),
        ("now", NOW),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T18:00Z", datetime(2026, 11, 20, 18, tzinfo=UTC)),
        ("2026-11-20T18:00+02:00", datetime(2026, 11, 20, 16, tzinfo=UTC)),
    ],
)
def test_a_moment(text: str, moment: datetime) -> None:
    assert parse_past(text, NOW) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "1y", "--1h", "99999999999d", "999999999w"])
def test_no_moment(text: str) -> None:
    with pytest.raises(BadInput, match="is not a time"):
        parse_past(text, NOW)
