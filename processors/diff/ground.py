"""What of a subnet was ever looked at: a service that the first look at its port finds was always there, for all we know. Pure.

Every other one opened since an earlier look. Coverage is kept by content alone (which ports of which addresses), so that it does not
depend on how often or by which campaign they were looked at. docs/adr/0015-baseline.md says why it is kept here.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from schemas.plain import LookedAt, Range, SubnetLooks, Sweep

MOST_ADDRESSES = 4096
"""So many addresses of a subnet are remembered: an IPv6 one has no end of them. Beyond, all counts as looked at: rather a page too many."""

Spans = tuple[tuple[int, int], ...]
"""Ports as the fewest ranges, ascending."""


@dataclass(frozen=True, slots=True)
class Ground:
    """Ports that were looked at, by transport and address."""

    looked: Mapping[tuple[str, str], Spans] = field(default_factory=dict)
    full: bool = False


def never_looked_at(ground: Ground, transport: str, address: str, ports: Iterable[int]) -> frozenset[int]:
    """Those of the ports that no look was taken at."""
    if ground.full:
        return frozenset()
    spans = ground.looked.get((transport, address), ())
    return frozenset(port for port in ports if not any(low <= port <= high for low, high in spans))


def widened(ground: Ground, sweep: Sweep, min_recall: float) -> Ground:
    """The ground with what a unit looked at; the very same object if that is nothing new.

    A port that was unreachable or not probed was not looked at, nor was anything by a unit that finds too little (DESIGN.md 4.4).
    """
    if ground.full or sweep["recall"] < min_recall:
        return ground
    transport, asked = sweep["transport"], _spans(sweep["ports"])
    left_out = {host["address"]: [*host["unreachable"], *host["not_probed"]] for host in sweep["hosts"]}
    news: dict[tuple[str, str], Spans] = {}
    joined: dict[tuple[Spans, Spans], Spans] = {}
    for address in {*sweep["probed"], *left_out}:
        missing = left_out.get(address)
        spans = _less(asked, _spans(missing)) if missing else asked
        before = ground.looked.get((transport, address), ())
        after = joined.get((before, spans))
        if after is None:
            after = joined[before, spans] = _union(before, spans)
        if after != before:
            news[transport, address] = after
    if not news:
        return ground
    looked = {**ground.looked, **news}
    return Ground(full=True) if len(looked) > MOST_ADDRESSES else Ground(looked)


def ground_of(looks: SubnetLooks) -> Ground:
    """The ground that a record says."""
    found: dict[tuple[str, str], Spans] = {}
    for one in looks["looked"]:
        spans = _spans(one["ports"])
        for network in map(ipaddress.ip_network, one["addresses"]):
            found.update(((one["transport"], str(address)), spans) for address in network)
    return Ground(found, looks["full"])


def looks_of(ground: Ground, zone: str, subnet: str) -> SubnetLooks:
    """The record that says a ground: equal grounds give equal records."""
    groups: dict[tuple[str, Spans], list[str]] = {}
    for (transport, address), spans in ground.looked.items():
        groups.setdefault((transport, spans), []).append(address)
    looked: list[LookedAt] = [
        {"transport": transport, "addresses": _collapsed(groups[transport, spans]), "ports": [{"first": a, "last": b} for a, b in spans]}
        for transport, spans in sorted(groups)
    ]
    return {"zone": zone, "subnet": subnet, "looked": looked, "full": ground.full}


def _collapsed(addresses: Iterable[str]) -> list[str]:
    """The fewest networks that hold just these addresses, of one version."""
    networks: list[Any] = [ipaddress.ip_network(one) for one in addresses]
    return [str(network) for network in ipaddress.collapse_addresses(networks)]


def _spans(ranges: Iterable[Range]) -> Spans:
    return _union(((one["first"], one["last"]) for one in ranges), ())


def _union(some: Iterable[tuple[int, int]], others: Iterable[tuple[int, int]]) -> Spans:
    found: list[tuple[int, int]] = []
    for low, high in sorted((*some, *others)):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return tuple(found)


def _less(some: Spans, out: Spans) -> Spans:
    """The ports of `some` that are not in `out`."""
    left: list[tuple[int, int]] = []
    for low, high in some:
        for first, last in out:
            if first <= high and last >= low:
                if first > low:
                    left.append((low, first - 1))
                low = max(low, last + 1)
        if low <= high:
            left.append((low, high))
    return tuple(left)
