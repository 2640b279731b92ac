"""Rows: what ClickHouse would refuse is refused before it is sent."""

from __future__ import annotations

import pytest

from schemas.examples import AT, EXAMPLES
from schemas.rows import ROWS, rows_of

PLACED = [(topic, event) for topic, event in EXAMPLES if type(event) in ROWS and (hasattr(event, "address") or hasattr(event, "place"))]


@pytest.mark.parametrize(("topic", "event"), PLACED, ids=[topic for topic, _ in PLACED])
@pytest.mark.parametrize("text", ["", "legacy.lab.test", "198.18.1.300", "fe80::1%eth0"])
def test_what_is_no_address_makes_no_row(topic: str, event: object, text: str) -> None:
    place = getattr(event, "place", None)
    changed = {"place": place.model_copy(update={"address": text})} if place else {"address": text}
    with pytest.raises(ValueError, match=r"address|interface"):
        rows_of(event.model_copy(update=changed), AT)  # type: ignore[attr-defined]


def test_every_row_says_when_kafka_took_its_record() -> None:
    for _, event in EXAMPLES:
        if type(event) in ROWS:
            assert all(row["recorded_at"] == AT for _, row in rows_of(event, AT))
