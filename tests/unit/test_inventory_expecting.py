"""What a campaign expects at its targets."""

from __future__ import annotations

import pytest

from infra.core.errors import BadInput
from producers.inventory.expecting import expecting
from schemas.events.context import Criticality, InventoryRecord


def test_each_target_gets_a_record_and_keeps_what_was_known() -> None:
    known = InventoryRecord(network="198.18.0.0/24", owner="web team", criticality=Criticality.HIGH, source="netbox", expected=("tcp/80",))
    found = expecting(
        ["198.18.0.0/24", "198.18.1.4-5", "2001:db8::1"], "default", "TCP/443 tcp/22", {"default|198.18.0.0/24": known}, "alice"
    )
    assert set(found) == {"default|198.18.0.0/24", "default|198.18.1.4/31", "default|2001:db8::1"}
    first = found["default|198.18.0.0/24"]
    assert (first.owner, first.criticality, first.expected, first.source) == ("web team", Criticality.HIGH, ("tcp/22", "tcp/443"), "")
    assert found["default|2001:db8::1"].changed_by == "alice"


def test_none_is_none_at_all() -> None:
    (record,) = expecting(["198.18.0.7"], "dmz", "none", {}, "alice").values()
    assert (record.zone, record.network, record.expected) == ("dmz", "198.18.0.7", ("none",))


@pytest.mark.parametrize(
    ("targets", "services", "word"),
    [
        (["www.example.org"], "tcp/443", "is a name"),
        (["198.18.0.7"], "none tcp/443", "no service"),
        (["198.18.0.7"], "https", "no service"),
        (["198.18.0.7"], "  ", "names no service"),
        (["198.18.0.1-198.18.255.254"] * 20, "none", "networks, more than"),
    ],
)
def test_what_can_not_be_expected_is_bad_input(targets: list[str], services: str, word: str) -> None:
    with pytest.raises(BadInput, match=word):
        expecting(targets, "default", services, {}, "alice")
