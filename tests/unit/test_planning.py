"""What the planner makes of requests: units, and refusals with their reasons."""

from __future__ import annotations

import ipaddress
import time
from datetime import timedelta

import pytest

from processors.plan.planning import MOST_REFUSALS, Authority, Limits, Plan, capped, names_in, plan
from processors.plan.units import MOST_UNITS, evenly, run_id_of, too_much, units
from schemas.events.base import PortRange
from schemas.events.grants import Grant
from schemas.events.targets import PinnedName, Refusal, TargetRequest, WorkUnit
from schemas.portset import expand, parse_ports, show_ports
from schemas.scope import Ask
from schemas.signing import sign
from tests.grant_examples import KEY, NIGHTS, NOW, book, grant

LIMITS = Limits(("default", "dmz"), frozenset({22, 80, 443}), 1 << 20, 60, timedelta(hours=1), 1000, 40, 2)


def request(*targets: str, ports: str | None = None, **more: object) -> TargetRequest:
    return TargetRequest.model_validate({"request_id": "r1", "targets": targets, "ports": ports, **more})


def made(wanted: TargetRequest, *grants: Grant, resolved: dict[str, tuple[str, ...]] | None = None) -> tuple[Plan, list[WorkUnit]]:
    found = plan(wanted, resolved or {}, Authority(book(*grants), {}, NOW), LIMITS)
    return found, list(units(wanted, found, NOW, LIMITS))


def reasons(wanted: TargetRequest, *grants: Grant, resolved: dict[str, tuple[str, ...]] | None = None) -> list[tuple[str, str]]:
    return [(one.target, one.reason) for one in made(wanted, *grants, resolved=resolved)[0].refused]


def test_a_subnet_becomes_one_unit_with_the_default_ports() -> None:
    found, work = made(request("198.18.0.0/24"), grant())
    (unit,) = work
    assert found.refused == ()
    assert (unit.subnet, len(unit.addresses), unit.addresses[0], unit.addresses[-1]) == ("198.18.0.0/24", 256, "198.18.0.0", "198.18.0.255")
    assert (show_ports(unit.tcp_ports), unit.grant_id, unit.grant_revision) == ("22,80,443", "lab", 1)
    assert (unit.planned_at, unit.expires_at, unit.not_before) == (NOW, NOW + timedelta(hours=1, minutes=2), None)
    assert (found.addresses, found.ports, found.excluded) == (256, 3, 0)


def test_units_never_cross_subnets() -> None:
    _, work = made(request("198.18.0.250-198.18.2.3", "2001:db8::1", "2001:db8:0:1::1"), grant(networks=("198.18.0.0/16", "2001:db8::/32")))
    assert [(one.subnet, len(one.addresses)) for one in work] == [
        ("198.18.0.0/24", 6),
        ("198.18.1.0/24", 256),
        ("198.18.2.0/24", 4),
        ("2001:db8::/64", 1),
        ("2001:db8:0:1::/64", 1),
    ]


def test_targets_that_overlap_are_planned_once() -> None:
    found, work = made(request("198.18.0.0/25", "198.18.0.64/26", "198.18.0.100", "198.18.0.128/25"), grant())
    assert [len(one.addresses) for one in work] == [256]
    assert found.addresses == 256


def test_the_gentlest_grant_wins_and_the_rest_goes_to_the_next() -> None:
    gentle = grant("gentle", ("198.18.0.0/25",), ports="80", packets=10)
    strong = grant("strong", ("198.18.0.0/24",), packets=1000)
    _, work = made(request("198.18.0.0/24"), strong, gentle)
    seen = {(one.grant_id, address, port) for one in work for address in one.addresses for port in expand(one.tcp_ports)}
    assert ("gentle", "198.18.0.5", 80) in seen
    assert ("strong", "198.18.0.5", 443) in seen
    assert ("strong", "198.18.0.200", 80) in seen
    assert len(seen) == 256 * 3


def test_the_named_grant_is_used_and_no_other() -> None:
    _, work = made(request("198.18.0.7", grant_id="strong"), grant("gentle", packets=10), grant("strong"))
    assert {one.grant_id for one in work} == {"strong"}
    wanted = request("198.18.0.7", grant_id="other")
    assert reasons(wanted, grant()) == [("198.18.0.7", "no trusted grant has the id other")]
    elsewhere = request("198.19.0.7", grant_id="lab")
    assert reasons(elsewhere, grant(), grant("wide", ("198.18.0.0/15",))) == [("198.19.0.7", "it is in no network of grant lab")]


def test_exclusions_of_every_valid_grant_are_taken_out_and_counted() -> None:
    other = grant("other", ("198.18.0.0/28",), exclusions=("198.18.0.4/30",), ports="9999", windows=(NIGHTS,))
    found, work = made(request("198.18.0.0/28"), grant(), other)
    assert [address for one in work for address in one.addresses] == [f"198.18.0.{n}" for n in (*range(4), *range(8, 16))]
    assert (found.excluded, found.addresses, found.refused) == (4, 12, ())
    assert reasons(request("198.18.0.5"), grant(), other) == [("198.18.0.5", "it is excluded by a grant of the zone")]


def test_exclusions_of_dead_grants_do_not_count() -> None:
    dead = grant("dead", exclusions=("198.18.0.7/32",), expires_at=NOW)
    assert reasons(request("198.18.0.7"), grant(), dead) == []


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (grant(expires_at=NOW), "grant lab expired at 2026-03-04T12:00:00+00:00"),
        (grant(revoked=True), "grant lab was revoked"),
        (grant(windows=(NIGHTS,)), "grant lab allows no probing at this hour"),
        (grant(zones=("dmz",)), "it is in no network of any grant of zone default"),
        (grant(networks=("198.19.0.0/16",)), "it is in no network of any grant of zone default"),
        (grant(ports="1000-2000"), "no default port is among the ports of the grants that cover it"),
    ],
)
def test_a_refusal_says_what_is_missing(given: Grant, reason: str) -> None:
    assert reasons(request("198.18.0.7"), given) == [("198.18.0.7", reason)]


def test_default_ports_that_are_not_granted_are_left_out_but_asked_ones_are_refused() -> None:
    found, work = made(request("198.18.0.7"), grant(ports="80"))
    assert (found.refused, [show_ports(one.tcp_ports) for one in work]) == ((), ["80"])
    found, work = made(request("198.18.0.7", ports="80,8080-8081"), grant(ports="80"))
    assert [one.reason for one in found.refused] == ["tcp/8080-8081 are not among the ports of the grants that cover it"]
    assert [show_ports(one.tcp_ports) for one in work] == ["80"]


def test_the_uncovered_part_of_a_range_is_refused_with_count_and_example() -> None:
    found, work = made(request("198.18.255.0-198.19.0.9"), grant())
    assert sum(len(one.addresses) for one in work) == 256
    (one,) = found.refused
    assert one.reason == "10 of its 266 addresses, e.g. 198.19.0.0: it is in no network of any grant of zone default"


@pytest.mark.parametrize(
    ("wanted", "reason"),
    [
        (request("198.18.0.7", zone="moon"), "there is no zone 'moon' here; the zones are default, dmz"),
        (request("198.18.0.7", ports="70000"), "Port 70000 does not exist: ports go from 1 to 65535."),
        (request("198.18.0.7", ports="http"), "'http' is not a port or a range of ports such as 80 or 8000-8100."),
        (request("0.0.0.0/0"), "names 4294967296 addresses, the limit is 1048576; write the networks that you mean"),
        (request("::/0"), "names 340282366920938463463374607431768211456 IPv6 addresses; IPv6 is never enumerated"),
        (request("what is this?"), "'what is this?' is not an address, a network, a range or a name."),
        (request("nowhere.example"), "the name does not resolve"),
        (
            request("198.18.0.7", not_before=NOW + timedelta(seconds=121)),
            "not_before is more than 2 minutes ahead; push it nearer to the time",
        ),
    ],
)
def test_bad_requests_are_refused_with_a_sentence(wanted: TargetRequest, reason: str) -> None:
    found, work = made(wanted, grant())
    assert work == []
    assert [one.reason[: len(reason)] for one in found.refused] == [reason]


def test_good_targets_are_planned_beside_bad_ones() -> None:
    found, work = made(request("nonsense!", "198.18.0.7", "10.0.0.1"), grant())
    assert [one.addresses for one in work] == [("198.18.0.7",)]
    assert [one.target for one in found.refused] == ["nonsense!", "10.0.0.1"]


def test_a_request_as_a_whole_has_the_limit_too() -> None:
    many = request(*(f"198.{16 + number}.0.0/16" for number in range(17)))
    refused = {one.target: one.reason for one in made(many, grant())[0].refused}
    assert "push it by itself" in refused["198.32.0.0/16"]
    assert "in no network" in refused["198.31.0.0/16"]


def test_names_are_pinned_to_what_they_resolved_to() -> None:
    wanted = request("web.example", "198.18.0.7", "db.example")
    assert names_in(wanted) == ["web.example", "db.example"]
    resolved = {"web.example": ("198.18.0.7", "198.18.0.8", "2001:DB8:0::1"), "db.example": ("198.18.0.7", "10.0.0.1")}
    found, work = made(wanted, grant(networks=("198.18.0.0/16", "2001:db8::/64")), resolved=resolved)
    assert [one.addresses for one in work] == [("198.18.0.7", "198.18.0.8"), ("2001:db8::1",)]
    assert set(work[0].names) == {
        PinnedName(name="web.example", address="198.18.0.7"),
        PinnedName(name="db.example", address="198.18.0.7"),
        PinnedName(name="web.example", address="198.18.0.8"),
    }
    assert work[1].names == (PinnedName(name="web.example", address="2001:db8::1"),)
    assert [(one.target, one.reason[:40]) for one in found.refused] == [("db.example", "1 of its 2 addresses, e.g. 10.0.0.1: it ")]


def test_a_resolver_can_not_smuggle_in_what_is_no_address() -> None:
    found, work = made(request("web.example"), grant(), resolved={"web.example": ("::ffff:198.18.0.7",)})
    assert work == []
    assert "IPv6 dress" in found.refused[0].reason


def test_units_end_in_time_at_their_budget() -> None:
    slow = grant(packets=10)
    _, work = made(request("198.18.0.0/24", ports="1-100"), slow)
    assert len({(address, port) for one in work for address in one.addresses for port in expand(one.tcp_ports)}) == 25_600
    for one in work:
        ports = len(expand(one.tcp_ports))
        assert len(one.addresses) * ports * LIMITS.attempts / one.packets_per_second <= LIMITS.unit_seconds
        assert ports * LIMITS.attempts / one.per_host_per_second <= LIMITS.unit_seconds
    assert {one.packets_per_second for one in work} == {10}


def test_the_budget_is_capped_by_the_scanner() -> None:
    _, work = made(request("198.18.0.7"), grant(packets=100_000))
    assert (work[0].packets_per_second, work[0].per_host_per_second) == (1000, 40)


def test_a_confirmation_waits_until_its_time() -> None:
    later = NOW + timedelta(seconds=15)
    _, work = made(request("198.18.0.7", ports="22", cause="confirmation", not_before=later), grant())
    assert [(one.not_before, one.expires_at, one.cause) for one in work] == [(later, later + timedelta(hours=1, minutes=2), "confirmation")]


def test_no_unit_of_a_long_run_expires_before_its_turn() -> None:
    _, work = made(request("198.18.0.0/22", ports="1-1000"), grant())
    in_turn = timedelta(seconds=2 * LIMITS.unit_seconds) * len(work)
    assert in_turn > LIMITS.valid, "the run is longer than the time that a unit may wait"
    assert {one.expires_at for one in work} == {NOW + LIMITS.valid + in_turn}


def test_the_same_request_gives_the_same_units() -> None:
    one, two = (made(request("198.18.0.0/22", ports="1-3000"), grant())[1] for _ in range(2))
    assert one == two
    assert len({unit.unit_id for unit in one}) == len(one) > 4
    assert {unit.run_id for unit in one} == {run_id_of(request("x"))}


def test_what_would_be_too_many_units_is_refused() -> None:
    wanted = request("198.18.0.0/16", ports="1-65535")
    found = plan(wanted, {}, Authority(book(grant(packets=10)), {}, NOW), LIMITS)
    assert f"the limit is {MOST_UNITS}" in (too_much(found, LIMITS) or "")
    medium = plan(request("198.18.0.0/16", ports="1-2000"), {}, Authority(book(grant()), {}, NOW), LIMITS)
    assert "9216 units" in (too_much(medium, LIMITS) or "")
    assert "divide it into 2 or more requests" in (too_much(medium, LIMITS) or "")
    small = plan(request("198.18.0.0/24"), {}, Authority(book(grant()), {}, NOW), LIMITS)
    assert too_much(small, LIMITS) is None


def test_the_list_of_refusals_has_an_end() -> None:
    refused = [Refusal(target=str(number), reason="no") for number in range(5000)]
    assert len(capped(refused)) == MOST_REFUSALS
    assert capped(refused)[-1].target == "… and 4001 more"
    assert capped(refused[:3]) == tuple(refused[:3])


def test_groups_are_even() -> None:
    assert [len(group) for group in evenly(range(10), 4)] == [3, 3, 4]
    assert list(evenly([], 4)) == []


def test_a_16_with_64_ports_is_planned_in_seconds() -> None:
    ports = ",".join(str(port) for port in range(1, 128, 2))
    began = time.perf_counter()
    found, work = made(request("198.18.0.0/16", ports=ports), grant(exclusions=("198.18.7.7/32",)))
    assert time.perf_counter() - began < 5
    assert sum(len(one.addresses) * len(expand(one.tcp_ports)) for one in work) == 65_535 * 64
    assert found.excluded == 1


def test_every_planned_packet_passes_the_gate_again() -> None:
    """The planner and `GrantBook.refusal`, which the scanner asks, must be of one mind."""
    shelf = book(grant("a", ("198.18.0.0/26",), ports="1-100"), grant("b", ("198.18.0.32/27",), exclusions=("198.18.0.40/32",), packets=5))
    wanted = request("198.18.0.0/25", ports="80,443")
    planned = {}
    for one in units(wanted, plan(wanted, {}, Authority(shelf, {}, NOW), LIMITS), NOW, LIMITS):
        for address in one.addresses:
            for port in expand(one.tcp_ports):
                assert (address, port) not in planned
                planned[address, port] = one.grant_id
                assert shelf.refusal("default", one.grant_id, address, Ask("tcp", port), NOW) is None
    for number in range(128):
        address = str(ipaddress.ip_address("198.18.0.0") + number)
        for port in (80, 443):
            allowed = any(shelf.refusal("default", name, address, Ask("tcp", port), NOW) is None for name in shelf.known)
            assert allowed == ((address, port) in planned)


def test_port_ranges_are_kept_as_ranges() -> None:
    _, work = made(request("198.18.0.7", ports="1-50"), grant())
    assert work[0].tcp_ports == (PortRange(first=1, last=50),)


def test_udp_ports_become_units_of_their_own_where_a_grant_covers_them() -> None:
    both = grant().model_copy(update={"udp_ports": parse_ports("53,161")})
    both = sign(both, KEY)
    found, work = made(request("198.18.0.7", ports="22,U:53,161"), both)
    assert [(show_ports(one.tcp_ports), show_ports(one.udp_ports)) for one in work] == [("22", ""), ("", "53,161")]
    assert (found.ports, found.refused, len({one.unit_id for one in work})) == (3, (), 2)
    assert reasons(request("198.18.0.7", ports="22,U:53,69"), both) == [
        ("198.18.0.7", "udp/69 is not among the ports of the grants that cover it")
    ]
    assert reasons(request("198.18.0.7", ports="U:22"), both) == [
        ("198.18.0.7", "udp/22 is not among the ports of the grants that cover it")
    ]
    _, defaults = made(request("198.18.0.7"), both)
    assert [one.udp_ports for one in defaults] == [()]
    for unit in work:
        known = book(both)
        assert all(known.refusal("default", "lab", "198.18.0.7", Ask("udp", port), NOW) is None for port in expand(unit.udp_ports))
