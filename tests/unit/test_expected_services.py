"""What the inventory expects: a service that closed is told of until it is back, and the names of a host reach the rules."""

from __future__ import annotations

import pytest

from schemas.events.assets import ChangeKind
from schemas.events.context import InventoryRecord
from schemas.events.observations import ServiceObservation
from tests.correlating import Bench, told
from tests.unit.test_correlating import certificate

HTTPS = ServiceObservation(port=443)
EXPECTED = InventoryRecord(network="198.18.0.0/24", expected=("tcp/443",))


@pytest.mark.parametrize("first", ["the inventory", "the closing"])
def test_an_expected_service_that_closes_is_told_of_until_it_is_back(first: str) -> None:
    bench = Bench()
    if first == "the inventory":
        bench.feed("inventory", EXPECTED, "default|198.18.0.0/24")
    bench.change(ChangeKind.SERVICE_OPENED, HTTPS)
    found = bench.change(ChangeKind.SERVICE_CLOSED, HTTPS, after=60)
    if first == "the closing":
        assert found == []
        found = bench.feed("inventory", EXPECTED, "default|198.18.0.0/24")
    assert told(found) == {("service-vanished", "opened")}
    assert bench.feed("inventory", EXPECTED, "default|198.18.0.0/24") == []
    back = bench.change(ChangeKind.SERVICE_OPENED, HTTPS, after=120)
    assert ("service-vanished", "resolved") in told(back)


def test_a_vanished_service_that_is_expected_no_more_is_forgotten() -> None:
    bench = Bench()
    bench.feed("inventory", EXPECTED, "default|198.18.0.0/24")
    bench.change(ChangeKind.SERVICE_OPENED, HTTPS)
    bench.change(ChangeKind.SERVICE_CLOSED, HTTPS, after=60)
    assert [key for key in bench.state.values if key.startswith("place|")]
    assert told(bench.feed("inventory", None, "default|198.18.0.0/24")) == {("service-vanished", "resolved")}
    assert not [key for key in bench.state.values if key.startswith("place|")]


def test_an_expected_service_of_a_host_that_went_down_is_told_of() -> None:
    bench = Bench()
    bench.feed("inventory", EXPECTED, "default|198.18.0.0/24")
    bench.change(ChangeKind.SERVICE_OPENED, HTTPS)
    assert told(bench.change(ChangeKind.HOST_DOWN, after=60)) == {("service-vanished", "opened")}


def test_the_name_that_a_host_was_looked_at_by_reaches_the_rules() -> None:
    bench = Bench()
    assert told(bench.change(ChangeKind.SERVICE_OPENED, certificate(90))) == set()
    renamed = bench.change(ChangeKind.SERVICE_CHANGED, certificate(90), after=60, names=("a.example",))
    assert told(renamed) == {("certificate-wrong-name", "opened")}
