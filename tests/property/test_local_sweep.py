"""A sweep in parts: every address that was asked for and is covered is in exactly one part, and no part is too large."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from processors.scan.local_sweep import common, joined, parts, size, spans_of, without
from processors.scan.scope.mask import compile_mask
from processors.scan.sweep.hosts import HostList
from schemas.targeting import Span
from tests.grant_examples import NOW, book, grant

BASE = {4: int(IPv4Address("198.18.0.0")), 6: int(IPv6Address("2001:db8::"))}


@st.composite
def spans(draw: st.DrawFn) -> Span:
    version = draw(st.sampled_from((4, 6)))
    first = BASE[version] + draw(st.integers(0, 600))
    return Span(version, first, first + draw(st.integers(0, 300)))


def addresses(found: list[Span]) -> set[tuple[int, int]]:
    return {(span.version, number) for span in found for number in range(span.first, span.last + 1)}


@given(st.lists(spans(), max_size=6))
def test_joined_spans_hold_the_same_addresses_once(found: list[Span]) -> None:
    assert addresses(joined(found)) == addresses(found)
    assert size(joined(found)) == len(addresses(found))


@given(st.lists(spans(), max_size=5), st.lists(spans(), max_size=5))
def test_common_is_the_intersection(ones: list[Span], others: list[Span]) -> None:
    found = common(ones, others)
    assert addresses(found) == addresses(ones) & addresses(others)
    assert size(found) == len(addresses(found))


@given(st.lists(spans(), max_size=5), st.integers(1, 40), st.integers(1, 2000))
def test_parts_hold_everything_once_and_are_bounded(wanted: list[Span], ports: int, most: int) -> None:
    made = list(parts(wanted, tuple(range(1, ports + 1)), most))
    held = [span for part in made for span in part.spans]
    assert addresses(held) == addresses(wanted)
    assert size(held) == len(addresses(held))
    for part in made:
        assert size(part.spans) * ports <= max(most, ports)
        assert len({span.version for span in part.spans}) == 1


@given(st.lists(spans(), max_size=4))
def test_a_host_list_names_each_address_of_its_spans_once_in_its_own_form(found: list[Span]) -> None:
    apart = joined(found)
    kinds = {4: IPv4Address, 6: IPv6Address}
    texts = [str(kinds[span.version](number)) for span in apart for number in range(span.first, span.last + 1)]
    made = HostList.of_spans(apart)
    assert list(made) == texts
    assert len(made) == len(texts)
    assert [made[row] for row in range(len(made))] == texts
    assert [made.row(address) for address in texts] == list(range(len(texts)))
    for version in (4, 6):
        rows, _ = made.column(version)
        assert made.texts(rows[::-1]) == [text for text in texts[::-1] if (":" in text) == (version == 6)]
    again = HostList.of_texts([*texts, *texts[:3]])
    assert list(again) == texts
    assert all((again.column(version)[1] == made.column(version)[1]).all() for version in (4, 6))
    assert "203.0.113.7" not in made


def test_the_spans_of_a_mask_are_what_the_grant_allows() -> None:
    known = book(grant(networks=("198.18.0.0/24", "2001:db8::/120"), exclusions=("198.18.0.7/32", "2001:db8::80/121")))
    assert spans_of(compile_mask(known, "default", "lab", NOW)) == [
        Span(4, BASE[4], BASE[4] + 6),
        Span(4, BASE[4] + 8, BASE[4] + 255),
        Span(6, BASE[6], BASE[6] + 127),
    ]


@given(st.lists(spans(), max_size=5), st.lists(spans(), max_size=5))
def test_without_is_the_difference(ones: list[Span], others: list[Span]) -> None:
    found = [*without(ones, others)]
    assert addresses(found) == addresses(ones) - addresses(others)
    assert size(found) == len(addresses(found))
