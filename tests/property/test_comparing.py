"""What must hold of any comparison of two looks: no difference with itself, a mirror image, and nothing on what was not looked at."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from producers.imports.comparing import Difference, HostView, PortKey, PortView, Snapshot, compare
from producers.imports.scanfile import Rest
from schemas.events.base import PortRange, Transport
from schemas.portset import expand, parse_ports, ranges, shared, size, without
from schemas.targeting import Span

STATES = st.frozensets(st.sampled_from(["open", "closed", "filtered"]), min_size=1, max_size=2)
SCRIPTS = st.dictionaries(st.sampled_from(["http-title", "ssl-cert"]), st.sampled_from(["", "a", "b"]), max_size=2)
KEYS = st.builds(PortKey, st.sampled_from(Transport), st.integers(1, 12))
VIEWS = st.builds(PortView, STATES, st.none() | st.sampled_from(["", "ssh", "http nginx"]), SCRIPTS)
SPANS = st.builds(lambda first, length: (PortRange(first=first, last=first + length),), st.integers(1, 12), st.integers(0, 6))
RESTS = st.builds(Rest, st.sampled_from(Transport), SPANS, STATES)
HOSTS = st.builds(
    HostView,
    st.sampled_from(["up", "down", ""]),
    st.dictionaries(KEYS, VIEWS, max_size=5),
    st.lists(RESTS, max_size=1).map(tuple),
    st.none() | st.sampled_from([(), ("a",), ("a", "b")]),
    st.frozensets(st.sampled_from(["Linux", "BSD"]), max_size=2),
    SCRIPTS,
)
ADDRESSES = st.sampled_from(["198.18.0.1", "198.18.0.2", "198.18.0.10", "2001:db8::1"])
SNAPSHOTS = st.builds(
    Snapshot,
    st.just("a"),
    st.dictionaries(ADDRESSES, HOSTS, max_size=3),
    st.lists(st.just(Span(4, 0xC6120000, 0xC61200FF)), max_size=1).map(tuple),
    st.none() | st.just(HostView("down")),
    st.frozensets(st.sampled_from(["http-title", "ssl-cert"])),
    st.sampled_from(["nmap", "driftline"]),
)


def turned(one: Difference) -> Difference:
    return replace(one, was=one.now, now=one.was)


@given(SNAPSHOTS)
def test_a_snapshot_does_not_differ_from_itself(one: Snapshot) -> None:
    assert compare(one, one).differences == ()
    again = replace(one, hosts={address: replace(view) for address, view in one.hosts.items()})
    assert compare(one, again).differences == ()


@given(SNAPSHOTS, SNAPSHOTS)
def test_swapped_sides_give_the_mirror_image(one: Snapshot, other: Snapshot) -> None:
    there, back = compare(one, other), compare(other, one)
    assert sorted(map(repr, there.differences)) == sorted(repr(turned(row)) for row in back.differences)
    swap = {"was": "is", "is": "was"}
    mirrored = [(row.host, row.port, swap[row.only], row.state) for row in there.unseen]
    assert mirrored == [(row.host, row.port, row.only, row.state) for row in back.unseen]


@given(SNAPSHOTS, SNAPSHOTS)
def test_a_row_says_two_things_that_are_not_the_same(one: Snapshot, other: Snapshot) -> None:
    for row in compare(one, other).differences:
        assert row.was != row.now


@given(SNAPSHOTS, SNAPSHOTS)
def test_what_one_side_did_not_look_at_is_in_no_row(one: Snapshot, other: Snapshot) -> None:
    for row in compare(one, other).differences:
        before, after = one.view(row.host), other.view(row.host)
        assert before is not None
        assert after is not None
        if row.port:
            transport, _, text = row.port.partition("/")
            for port in expand(parse_ports(text)):
                key = PortKey(Transport(transport), port)
                assert before.port(key) is not None
                assert after.port(key) is not None


@given(SNAPSHOTS, SNAPSHOTS)
def test_less_knowledge_never_makes_a_new_row_on_ports(one: Snapshot, other: Snapshot) -> None:
    """Of a side that looked at one host less, there are the same rows on the others and none on that."""
    for address in other.hosts:
        less = replace(other, hosts={key: view for key, view in other.hosts.items() if key != address}, unlisted=None)
        full = compare(one, replace(other, unlisted=None)).differences
        assert compare(one, less).differences == tuple(row for row in full if row.host != address)


PORTS = st.sets(st.integers(1, 40)).map(ranges)


@given(PORTS, PORTS)
def test_ranges_are_sets(some: tuple[PortRange, ...], others: tuple[PortRange, ...]) -> None:
    one, other = set(expand(some)), set(expand(others))
    assert set(expand(without(some, others))) == one - other
    assert set(expand(shared(some, others))) == one & other
    assert size(some) == len(one)
