"""Many packets in few words: hosts that got the same are told together. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from schemas.events.base import PortRange
from schemas.events.touches import PacketKind, Touch

CODES = {kind: code for code, kind in enumerate(PacketKind)}
KINDS = tuple(PacketKind)
MOST_RANGES = 64
"""Of one host's ports in one record: beyond it only the span that holds them is told, since a fast sweep visits ports at random."""
Column = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Sums:
    """So many packets to each (host, kind, port), ascending by these; first and last in seconds since 1970. A host is a place in a list."""

    hosts: Column
    kinds: Column
    ports: Column
    counts: Column
    first: Column
    last: Column

    @classmethod
    def of(cls, hosts: Column, kinds: Column, ports: Column, times: Column) -> Self:
        """Sum up packets, of which there is at least one."""
        keys = hosts.astype(np.uint64) << np.uint64(24) | kinds.astype(np.uint64) << np.uint64(16) | ports.astype(np.uint64)
        order = np.argsort(keys)
        keys, times = keys[order], times[order]
        starts = _starts(keys)
        found = keys[starts]
        return cls(
            hosts=found >> np.uint64(24),
            kinds=found >> np.uint64(16) & np.uint64(0xFF),
            ports=found & np.uint64(0xFFFF),
            counts=np.diff(starts, append=len(keys)),
            first=np.minimum.reduceat(times, starts),
            last=np.maximum.reduceat(times, starts),
        )


@dataclass(frozen=True, slots=True)
class _Share:
    """What one host got of one kind, at each port equally much. `ports` is empty for packets without a port."""

    kind: int
    packets: int
    ports: tuple[tuple[int, int], ...]
    every: bool
    host: int
    first: float
    last: float

    def like(self, other: _Share) -> bool:
        """Whether two hosts got the same. Of two spans only the extent may differ."""
        same = (self.kind, self.packets, self.every) == (other.kind, other.packets, other.every)
        return same and (not self.every or self.ports == other.ports)


def told(sums: Sums, numbers: Sequence[int], version: int) -> tuple[Touch, ...]:
    """Sums as entries of a record. `numbers` are the hosts' addresses, ascending."""
    runs: list[list[_Share]] = []
    for one in _shares(sums):
        last = runs[-1][-1] if runs else None
        if last is not None and last.like(one) and numbers[one.host] == numbers[last.host] + 1:
            runs[-1].append(one)
        else:
            runs.append([one])
    return tuple(_touch(run, numbers, version) for run in runs)


def _shares(sums: Sums) -> Iterator[_Share]:
    """What each host got, alike ones of neighbours one after the other."""
    portless = (sums.ports == 0).astype(np.uint64)
    counts = np.minimum(sums.counts, 0xFFFF_FFFF).astype(np.uint64)
    keys = (sums.kinds << np.uint64(1) | portless) << np.uint64(56) | counts << np.uint64(24) | sums.hosts
    order = np.argsort(keys, kind="stable")
    ports = sums.ports[order].astype(np.int64)
    starts = _starts(keys[order])
    opens = np.diff(ports, prepend=-1) != 1
    opens[starts] = True
    spans = np.add.reduceat(opens, starts, dtype=np.int64)
    first, last = np.minimum.reduceat(sums.first[order], starts), np.maximum.reduceat(sums.last[order], starts)
    ends = np.append(starts[1:], len(order))
    for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        row, mine = order[start], ports[start:end]
        every = int(spans[number]) <= MOST_RANGES
        yield _Share(
            kind=int(sums.kinds[row]),
            packets=int(sums.counts[row]) * (end - start),
            ports=_ranges(mine, opens[start:end]) if every else ((int(mine[0]), int(mine[-1])),),
            every=every,
            host=int(sums.hosts[row]),
            first=float(first[number]),
            last=float(last[number]),
        )


def _ranges(ports: Column, opens: Column) -> tuple[tuple[int, int], ...]:
    """Ascending ports as ranges; `opens` marks where one begins."""
    if ports[0] == 0:
        return ()
    lows = np.flatnonzero(opens)
    return tuple(zip(ports[lows].tolist(), ports[np.append(lows[1:], len(ports)) - 1].tolist(), strict=True))


def _touch(run: Sequence[_Share], numbers: Sequence[int], version: int) -> Touch:
    make = ipaddress.IPv4Address if version == 4 else ipaddress.IPv6Address
    head, every = run[0], run[0].every
    spans = head.ports if every else ((min(one.ports[0][0] for one in run), max(one.ports[0][1] for one in run)),)
    return Touch(
        first=str(make(numbers[head.host])),
        last=str(make(numbers[run[-1].host])),
        kind=KINDS[head.kind],
        ports=tuple(PortRange(first=low, last=high) for low, high in spans),
        every_port=every,
        packets=head.packets,
        first_at=_moment(min(one.first for one in run)),
        last_at=_moment(max(one.last for one in run)),
    )


def _starts(keys: Column) -> Column:
    """Where runs of equal keys begin."""
    return np.flatnonzero(np.append(True, keys[1:] != keys[:-1]))


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
