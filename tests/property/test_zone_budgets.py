"""Zones that may look at the same host share its budget: together they never have more of it than one would."""

from __future__ import annotations

import ipaddress
from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from processors.plan.planning import Authority, Limits, plan
from processors.plan.units import units
from schemas.events.grants import Grant
from schemas.events.targets import TargetRequest, WorkUnit
from tests.grant_examples import NOW, book, grant

ZONES = ("default", "dmz", "lab")
HOST_LIMIT = 40
LIMITS = Limits(ZONES, frozenset({22, 80}), 1 << 20, 60, timedelta(hours=1), 1000, HOST_LIMIT, 2)
ADDRESSES = [f"198.18.0.{number}" for number in range(16)]
networks = st.sampled_from(("198.18.0.0/28", "198.18.0.0/29", "198.18.0.8/29", "198.18.0.4/30", "198.18.0.12/32"))
Drawn = tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...], int]
given_grants = st.lists(
    st.tuples(
        st.lists(st.sampled_from(ZONES), min_size=1, max_size=3, unique=True).map(tuple),
        st.lists(networks, min_size=1, max_size=2, unique=True).map(tuple),
        st.lists(networks, max_size=1).map(tuple),
        st.sampled_from((3, 20, 200)),
    ),
    min_size=1,
    max_size=4,
)


def made(zone: str, grants: list[Grant]) -> list[WorkUnit]:
    request = TargetRequest(request_id=f"r-{zone}", zone=zone, targets=tuple(ADDRESSES), ports="22,80")
    found = plan(request, {}, Authority(book(*grants), {}, NOW), LIMITS)
    return list(units(request, found, NOW, LIMITS))


@given(given_grants)
def test_the_zones_rates_add_up_to_one_budget_at_most(given_grants: list[Drawn]) -> None:
    grants = [
        grant(f"g{number}", zones=zones, networks=reach, exclusions=holes, packets=rate)
        for number, (zones, reach, holes, rate) in enumerate(given_grants)
    ]
    work = {zone: made(zone, grants) for zone in ZONES}
    for address in ADDRESSES:
        rates = [max((unit.per_host_per_second for unit in work[zone] if address in unit.addresses), default=0) for zone in ZONES]
        whole = max((min(HOST_LIMIT, one.intensity.per_host_per_second) for one in grants if holds(one.networks, address)), default=0)
        assert sum(rates) <= whole
        # Who is alone at a host has its whole budget.
        if sum(rate > 0 for rate in rates) == 1 and reached(address, grants) == 1:
            (rate,) = (one for one in rates if one)
            assert rate in {min(HOST_LIMIT, one.intensity.per_host_per_second) for one in grants}


@given(given_grants)
def test_the_scanner_counts_the_zones_as_the_planner_does(given_grants: list[Drawn]) -> None:
    grants = [
        grant(f"g{number}", zones=zones, networks=reach, exclusions=holes, packets=rate)
        for number, (zones, reach, holes, rate) in enumerate(given_grants)
    ]
    for address in ADDRESSES:
        assert book(*grants).zones_at([ipaddress.ip_address(address)], NOW) == max(1, reached(address, grants))


def holds(texts: tuple[str, ...], address: str) -> bool:
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(text) for text in texts)


def reached(address: str, grants: list[Grant]) -> int:
    """In how many zones some grant holds the address and none excludes it."""
    of = {zone: [one for one in grants if zone in one.zones] for zone in ZONES}
    return sum(
        any(holds(one.networks, address) for one in some) and not any(holds(one.exclusions, address) for one in some)
        for some in of.values()
    )
