"""Sets of ports as people write them (`22,80-90`, with UDP: `22,U:53,161`) and as events carry them (ranges)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from schemas.events.base import PortRange, Transport


class PortSets(NamedTuple):
    """TCP ports and UDP ports."""

    tcp: tuple[PortRange, ...] = ()
    udp: tuple[PortRange, ...] = ()

    def of(self, transport: Transport) -> tuple[PortRange, ...]:
        """The ports of one transport."""
        return self.udp if transport is Transport.UDP else self.tcp


def parse_port_sets(text: str) -> PortSets:
    """`22,80,U:53,161` as nmap takes it: `U:` and `T:` hold until the next; TCP at first. Raises ValueError with a sentence."""
    parts: dict[str, list[str]] = {"T": [], "U": []}
    now = "T"
    for part in text.split(","):
        prefix, colon, rest = part.strip().partition(":")
        if colon and prefix not in parts:
            raise ValueError(f"'{prefix}:' is not a transport: T: stands before TCP ports, U: before UDP ports.")
        now = prefix if colon else now
        parts[now].append(rest if colon else part)
    return PortSets(*(parse_ports(",".join(some)) if some else () for some in parts.values()))


def show_port_sets(sets: PortSets) -> str:
    """Port sets as text: `22,80,U:53,161`."""
    return ",".join(filter(None, (show_ports(sets.tcp), f"U:{show_ports(sets.udp)}" if sets.udp else "")))


def parse_ports(text: str) -> tuple[PortRange, ...]:
    """`22,80-90` as sorted, joined ranges. Raises ValueError with a sentence for anything else."""
    spans: list[PortRange] = []
    for part in (piece.strip() for piece in text.split(",")):
        first, dash, last = part.partition("-")
        if not (part.isascii() and first.isdecimal() and (last.isdecimal() or not dash)):
            raise ValueError(f"'{part}' is not a port or a range of ports such as 80 or 8000-8100.")
        low, high = int(first), int(last or first)
        if not (1 <= low <= 65535 and 1 <= high <= 65535):
            raise ValueError(f"Port {low if not 1 <= low <= 65535 else high} does not exist: ports go from 1 to 65535.")
        if low > high:
            raise ValueError(f"The range '{part}' runs backwards.")
        spans.append(PortRange(first=low, last=high))
    return joined(spans)


def joined(spans: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """The same ports in the fewest ranges, ascending; its time goes by the number of ranges, not of ports."""
    found: list[tuple[int, int]] = []
    for low, high in sorted((span.first, span.last) for span in spans):
        if found and low <= found[-1][1] + 1:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return tuple(PortRange(first=low, last=high) for low, high in found)


def ranges(ports: Iterable[int]) -> tuple[PortRange, ...]:
    """The fewest ranges that hold just these ports."""
    found: list[tuple[int, int]] = []
    for port in sorted(set(ports)):
        if found and found[-1][1] == port - 1:
            found[-1] = (found[-1][0], port)
        else:
            found.append((port, port))
    return tuple(PortRange(first=first, last=last) for first, last in found)


def expand(spans: Iterable[PortRange]) -> tuple[int, ...]:
    """Every port of these ranges, ascending."""
    return tuple(port for span in joined(spans) for port in range(span.first, span.last + 1))


def without(spans: Iterable[PortRange], others: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """The ports of the one that are not in the other."""
    found: list[PortRange] = []
    gone = joined(others)
    at = 0
    for span in joined(spans):
        low = span.first
        while at < len(gone) and gone[at].last < low:
            at += 1
        for index in range(at, len(gone)):  # a slice of a long list, for each of many ranges, takes minutes
            other = gone[index]
            if other.first > span.last:
                break
            if other.first > low:
                found.append(PortRange(first=low, last=other.first - 1))
            low = other.last + 1
        if low <= span.last:
            found.append(PortRange(first=low, last=span.last))
    return tuple(found)


def shared(spans: Iterable[PortRange], others: Iterable[PortRange]) -> tuple[PortRange, ...]:
    """The ports that both hold."""
    known = tuple(spans)
    return without(known, without(known, others))


def size(spans: Iterable[PortRange]) -> int:
    """How many ports these ranges hold, each counted once."""
    return sum(span.last - span.first + 1 for span in joined(spans))


def holds(spans: Iterable[PortRange], port: int) -> bool:
    """Whether one of the ranges holds the port."""
    return any(span.first <= port <= span.last for span in spans)


def show_ports(spans: Iterable[PortRange]) -> str:
    """Ranges as text: `22,80-90`."""
    return ",".join(str(span.first) if span.first == span.last else f"{span.first}-{span.last}" for span in spans)
