"""Sets of ports: text, ranges and sets are three forms of one thing."""

from __future__ import annotations

import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.events.base import PortRange
from schemas.portset import PortSets, expand, holds, parse_port_sets, parse_ports, ranges, show_port_sets, show_ports, without

ports = st.sets(st.integers(1, 65535) | st.integers(1, 40), max_size=60)


@given(ports)
def test_ranges_hold_just_these_ports_and_are_as_few_as_can_be(some: set[int]) -> None:
    spans = ranges(some)
    assert set(expand(spans)) == some
    assert all(before.last + 1 < after.first for before, after in pairwise(spans))
    assert all(holds(spans, port) == (port in some) for port in range(1, 60))


@given(ports.filter(bool))
def test_what_is_shown_is_read_again(some: set[int]) -> None:
    assert parse_ports(show_ports(ranges(some))) == ranges(some)


@given(st.lists(st.tuples(st.integers(1, 65535), st.integers(0, 50)), min_size=1, max_size=8))
def test_pieces_may_overlap_and_come_in_any_order(pieces: list[tuple[int, int]]) -> None:
    bounded = [(first, min(65535, first + more)) for first, more in pieces]
    text = " , ".join(f"{first}-{last}" if last > first else str(first) for first, last in bounded)
    assert set(expand(parse_ports(text))) == {port for first, last in bounded for port in range(first, last + 1)}


@given(st.text(max_size=20))
def test_any_text_is_ports_or_gets_a_sentence(text: str) -> None:
    try:
        spans = parse_ports(text)
    except ValueError as error:
        spans, sentence = (), str(error)
    else:
        sentence = "."
    assert sentence.endswith(".")
    assert all(1 <= span.first <= span.last <= 65535 for span in spans)


@pytest.mark.parametrize("text", ["", ",", "0", "65536", "70000", "80-", "-80", "90-80", "http", "80;81", "1-2-3", "+80", "8 0", "80,"])
def test_what_is_no_set_of_ports(text: str) -> None:
    with pytest.raises(ValueError, match=r"\.$"):
        parse_ports(text)


def test_many_whole_ranges_cost_no_time() -> None:
    begun = time.monotonic()
    assert parse_ports(",".join(["1-65535"] * 20_000)) == (PortRange(first=1, last=65535),)
    assert time.monotonic() - begun < 5.0


def test_every_second_port_without_the_others_costs_little_time() -> None:
    odd, even = ranges(range(1, 65536, 2)), ranges(range(2, 65536, 2))
    begun = time.process_time()
    assert all(without(odd, even) == odd for _ in range(3))
    assert time.process_time() - begun < 5.0


@given(ports, ports)
def test_tcp_and_udp_ports_that_are_shown_are_read_again(tcp: set[int], udp: set[int]) -> None:
    sets = PortSets(ranges(tcp), ranges(udp))
    if tcp or udp:
        assert parse_port_sets(show_port_sets(sets)) == sets


@pytest.mark.parametrize(
    ("text", "tcp", "udp"),
    [
        ("22,80", "22,80", ""),
        ("U:53,161", "", "53,161"),
        ("22,80,U:53,161", "22,80", "53,161"),
        ("U:53,T:22,80, U:161-162", "22,80", "53,161-162"),
    ],
)
def test_transports_as_nmap_writes_them(text: str, tcp: str, udp: str) -> None:
    sets = parse_port_sets(text)
    assert (show_ports(sets.tcp), show_ports(sets.udp)) == (tcp, udp)


@pytest.mark.parametrize("text", ["", "U:", "22,U:", "S:22", "U:T:22", "U:0", "u:53", "22,,U:53"])
def test_what_is_no_set_of_ports_gets_a_sentence(text: str) -> None:
    with pytest.raises(ValueError, match=r"[.]$"):
        parse_port_sets(text)
