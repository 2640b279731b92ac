"""Planning by ranges must equal planning address by address; sets of ranges must equal sets."""

from __future__ import annotations

import ipaddress
from datetime import timedelta
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.plan.planning import Authority, Limits, plan
from processors.plan.space import Space, space
from processors.plan.units import MOST_ADDRESSES, too_much, units
from schemas.events.base import PortRange
from schemas.events.grants import Grant
from schemas.events.targets import TargetRequest, WorkUnit
from schemas.ids import subnet_of
from schemas.portset import expand, parse_ports, ranges, show_ports
from schemas.scope import Ask, excluded
from schemas.targeting import HostName, Span, parse_target
from tests.grant_examples import NIGHTS, NOW, book, grant

BASE = int(ipaddress.ip_address("198.18.0.0")) + 200
WIDTH = 120
spans = st.tuples(st.sampled_from((4, 6)), st.integers(0, 90), st.integers(0, 30)).map(lambda one: Span(one[0], one[1], one[1] + one[2]))
span_lists = st.lists(spans, max_size=6)


def members(spans: tuple[Span, ...] | list[Span]) -> set[tuple[int, int]]:
    return {(one.version, number) for one in spans for number in range(one.first, one.last + 1)}


def is_tidy(found: Space) -> bool:
    pairs = pairwise(found.spans)
    return all(one.version < two.version or one.last + 1 < two.first for one, two in pairs)


@settings(deadline=None)
@given(span_lists, span_lists)
def test_spaces_are_sets(one: list[Span], two: list[Span]) -> None:
    left, right = space(one), space(two)
    for found, expected in (
        (left, members(one)),
        (left.common(right), members(one) & members(two)),
        (left.minus(right), members(one) - members(two)),
    ):
        assert members(found.spans) == expected
        assert found.size == len(expected)
        assert is_tidy(found)


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 700)), min_size=1, max_size=5))
def test_cutting_at_subnets_loses_and_doubles_nothing(pieces: list[tuple[int, int]]) -> None:
    whole = space(Span(4, first, first + more) for first, more in pieces)
    cut = [(subnet, part) for subnet, parts in whole.by_subnet() for part in parts]
    assert sum(part.size for _, part in cut) == whole.size
    assert members([part for _, part in cut]) == members(whole.spans)
    assert all(subnet == subnet_of(str(ipaddress.IPv4Address(one))) for subnet, part in cut for one in (part.first, part.last))
    names = [subnet for subnet, _ in whole.by_subnet()]
    assert len(set(names)) == len(names)


def text_at(number: int) -> str:
    return str(ipaddress.ip_address(BASE + number))


@st.composite
def networks(draw: st.DrawFn) -> str:
    size = draw(st.sampled_from((26, 27, 28, 30, 32)))
    return str(ipaddress.ip_network((BASE + draw(st.integers(0, WIDTH)), size), strict=False))


@st.composite
def grants(draw: st.DrawFn) -> list[Grant]:
    return [
        grant(
            name,
            tuple(draw(st.lists(networks(), min_size=1, max_size=3))),
            exclusions=tuple(draw(st.lists(networks(), max_size=1))),
            ports=show_ports(ranges(draw(st.sets(st.integers(1, 6), min_size=1)))),
            packets=draw(st.sampled_from((3, 20, 1000))),
            windows=draw(st.sampled_from(((), (), (NIGHTS,)))),
            expires_at=NOW + timedelta(days=draw(st.sampled_from((1, 1, 0)))),
        )
        for name in ("a", "b", "c")[: draw(st.integers(0, 3))]
    ]


requests = st.builds(
    lambda pieces, ports, name: TargetRequest(
        request_id="r", targets=tuple(f"{text_at(first)}-{text_at(first + more)}" for first, more in pieces), ports=ports, grant_id=name
    ),
    st.lists(st.tuples(st.integers(0, WIDTH), st.integers(0, 60)), min_size=1, max_size=4),
    st.none() | st.sets(st.integers(1, 6), min_size=1).map(lambda some: show_ports(ranges(some))),
    st.sampled_from((None, None, "a", "nobody")),
)
LIMITS = Limits(("default",), frozenset({2, 3, 5}), 1 << 20, 60, timedelta(hours=1), 1000, 40, 2)


@settings(deadline=None)
@given(requests, grants())
def test_planning_by_ranges_equals_asking_for_each_packet(request: TargetRequest, given_grants: list[Grant]) -> None:
    shelf = book(*given_grants)
    found = plan(request, {}, Authority(shelf, {}, NOW), LIMITS)
    work = list(units(request, found, NOW, LIMITS))
    wanted = {number for target in request.targets for number in numbers_in(target)}
    ports = sorted(LIMITS.default_ports) if request.ports is None else expand(ranges_of(request))
    expected = {}
    for number in wanted:
        address = str(ipaddress.ip_address(number))
        for port in ports:
            allowed = [
                one.grant.grant_id
                for one in shelf.of_zone("default", NOW)
                if request.grant_id in (None, one.grant.grant_id)
                and shelf.refusal("default", one.grant.grant_id, address, Ask("tcp", port), NOW) is None
            ]
            if allowed:
                expected[address, port] = allowed[0]
    planned = [((address, port), one.grant_id) for one in work for address in one.addresses for port in expand(one.tcp_ports)]
    assert dict(planned) == expected
    assert len(planned) == len(expected)
    assert found.addresses == len({address for address, _ in expected})
    valid = shelf.of_zone("default", NOW)
    assert found.excluded == sum(excluded(ipaddress.ip_address(number), valid) for number in wanted)
    for one in work:
        check_unit(one)
    assert too_much(found, LIMITS) is None
    check_refusals(request, {one.target for one in found.refused}, expected)


def check_unit(one: WorkUnit) -> None:
    assert {subnet_of(address) for address in one.addresses} == {one.subnet}
    assert len(one.addresses) <= MOST_ADDRESSES
    assert len(one.addresses) * len(expand(one.tcp_ports)) * LIMITS.attempts <= one.packets_per_second * LIMITS.unit_seconds


def check_refusals(request: TargetRequest, refused: set[str], expected: dict[tuple[str, int], str]) -> None:
    """A target none of whose addresses is planned is told so; one that is planned whole is not."""
    for target in request.targets:
        addresses = {str(ipaddress.ip_address(number)) for number in numbers_in(target)}
        planned = {address for address, _ in expected} & addresses
        if not planned:
            assert target in refused
        if request.ports is not None and all((address, port) in expected for address in addresses for port in expand(ranges_of(request))):
            assert target not in refused


def ranges_of(request: TargetRequest) -> tuple[PortRange, ...]:
    return parse_ports(request.ports or "1")


def numbers_in(target: str) -> range:
    parsed = parse_target(target)
    assert isinstance(parsed, Span)
    return range(parsed.first, parsed.last + 1)


@settings(deadline=None)
@given(st.text(max_size=40) | st.from_regex(r"[0-9a-f.:/-]{1,30}", fullmatch=True))
def test_any_text_is_a_target_or_gets_a_sentence(text: str) -> None:
    sentence, parsed = ".", None
    try:
        parsed = parse_target(text)
    except ValueError as error:
        sentence = str(error)
    assert sentence.endswith(".")
    if isinstance(parsed, HostName):
        assert parse_target(parsed.text) == parsed
    if isinstance(parsed, Span):
        assert 0 <= parsed.first <= parsed.last < 1 << (32 if parsed.version == 4 else 128)
