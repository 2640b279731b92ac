"""Sets of addresses as sorted ranges, so that a /8 costs as much as one address. Pure."""

from __future__ import annotations

import functools
import ipaddress
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from schemas.ids import SUBNET_BITS, Network
from schemas.targeting import Span

BITS = {4: 32, 6: 128}


@dataclass(frozen=True, slots=True)
class Space:
    """A set of addresses of both families: sorted spans that neither overlap nor touch. Make one with `space`."""

    spans: tuple[Span, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.spans)

    @property
    def size(self) -> int:
        """How many addresses it holds."""
        return sum(one.size for one in self.spans)

    @property
    def example(self) -> str:
        """Its first address, as text."""
        return text_of(self.spans[0].version, self.spans[0].first)

    def common(self, other: Space) -> Space:
        """The addresses in both."""
        few, many = sorted((self.spans, other.spans), key=len)
        pairs = ((one, two) for one in few for two in _near(many, one))
        return Space(tuple(Span(one.version, max(one.first, two.first), min(one.last, two.last)) for one, two in pairs))

    def minus(self, other: Space) -> Space:
        """The addresses that are not in the other."""
        found = []
        for one in self.spans:
            start = one.first
            for hole in _near(other.spans, one):
                if hole.first > start:
                    found.append(Span(one.version, start, hole.first - 1))
                start = hole.last + 1
            if start <= one.last:
                found.append(Span(one.version, start, one.last))
        return Space(tuple(found))

    def by_subnet(self) -> Iterator[tuple[str, tuple[Span, ...]]]:
        """Its spans cut at the borders of subnets (/24, /64): the subnet's text, and what of it is in the set, in order."""
        current, parts = (0, 0), list[Span]()
        for span in self.spans:
            width = BITS[span.version] - SUBNET_BITS[span.version]
            start = span.first
            while start <= span.last:
                number = start >> width
                if (span.version, number) != current:
                    if parts:
                        yield _subnet(parts[0]), tuple(parts)
                    current, parts = (span.version, number), []
                end = min(span.last, ((number + 1) << width) - 1)
                parts.append(Span(span.version, start, end))
                start = end + 1
        if parts:
            yield _subnet(parts[0]), tuple(parts)


def space(spans: Iterable[Span]) -> Space:
    """The set of all addresses of these spans."""
    found: list[Span] = []
    for one in sorted(spans):
        if found and found[-1].version == one.version and one.first <= found[-1].last + 1:
            if one.last > found[-1].last:
                found[-1] = Span(one.version, found[-1].first, one.last)
        else:
            found.append(one)
    return Space(tuple(found))


@functools.lru_cache(maxsize=1024)
def space_of(networks: tuple[Network, ...]) -> Space:
    """The set of all addresses of these networks; remembered, for a grant's networks are asked for with every request."""
    return space(Span(one.version, int(one.network_address), int(one.broadcast_address)) for one in networks)


def text_of(version: int, number: int) -> str:
    """The address with this number, as text (RFC 5952)."""
    return str(ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number))


def _near(spans: tuple[Span, ...], wanted: Span) -> Iterator[Span]:
    """Those of the sorted, disjoint spans that overlap `wanted`."""
    at = bisect_left(spans, Span(wanted.version, wanted.first, wanted.first))
    if at and spans[at - 1].version == wanted.version and spans[at - 1].last >= wanted.first:
        at -= 1
    while at < len(spans) and spans[at].version == wanted.version and spans[at].first <= wanted.last:
        yield spans[at]
        at += 1


def _subnet(part: Span) -> str:
    bits = SUBNET_BITS[part.version]
    width = BITS[part.version] - bits
    return f"{text_of(part.version, part.first >> width << width)}/{bits}"
