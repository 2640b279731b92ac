"""The scope of one grant as arrays, so that a whole batch of packets is judged at once in the function that writes them.

What `GrantBook.refusal` says of one packet, this says of many; a property test holds them equal. It is made anew whenever the grants
changed, and says nothing about the time: whether the grant stands at all is asked for each batch.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from schemas.events.base import PortRange
from schemas.ids import Network
from schemas.scope import MAPPED, GrantBook, KnownGrant

Flags = NDArray[np.bool_]
Ports = NDArray[np.uint16]
Addresses = NDArray[Any]
"""IPv4 as numbers, IPv6 as 16 bytes in network order: both sort as the addresses do."""


def column_of(numbers: Iterable[int], version: int) -> Addresses:
    """Addresses of one version, given as numbers."""
    if version == 4:
        return np.fromiter(numbers, dtype=np.uint32)
    return np.array([number.to_bytes(16, "big") for number in numbers], dtype="S16")


def column_of_texts(texts: Iterable[str], version: int) -> Addresses:
    """The same, given as text in an address's own form. Raises OSError for what is no address."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    data = b"".join(map(partial(socket.inet_pton, family), texts))
    return np.frombuffer(data, dtype=">u4").astype(np.uint32) if version == 4 else np.frombuffer(data, dtype="S16")


@dataclass(frozen=True, slots=True)
class ScopeMask:
    """Inclusive bounds of the allowed addresses of each version, ascending and apart, and which TCP and UDP ports are allowed."""

    first: dict[int, Addresses]
    last: dict[int, Addresses]
    tcp: Flags
    udp: Flags
    icmp: bool

    def allows(self, addresses: Addresses, ports: Ports, kind: Literal["tcp", "udp", "icmp"] = "tcp") -> Flags:
        """Which of these packets the grant covers: address and port of each."""
        version = 4 if addresses.dtype.kind == "u" else 6
        if kind == "icmp" and not self.icmp:
            return np.zeros(len(addresses), dtype=bool)
        inside = self._inside(version, addresses)
        return inside if kind == "icmp" else inside & (self.tcp if kind == "tcp" else self.udp)[ports]

    def covers(self, addresses: Addresses) -> Flags:
        """Which of these addresses the grant covers at all: a neighbour may be asked where he is (DESIGN.md 4.1)."""
        return self._inside(4 if addresses.dtype.kind == "u" else 6, addresses)

    def _inside(self, version: int, addresses: Addresses) -> Flags:
        first, last = self.first[version], self.last[version]
        if not len(first):
            return np.zeros(len(addresses), dtype=bool)
        place = np.searchsorted(first, addresses, side="right") - 1
        inside: Flags = (place >= 0) & (addresses <= last[place])
        return inside


def compile_mask(book: GrantBook, zone: str, grant_id: str, now: datetime, halted: Iterable[Network] = ()) -> ScopeMask:
    """The mask of a grant in a zone, less what any valid grant of the zone excludes, and what is halted.

    It allows nothing where the grant is not known.
    """
    entry = book.known.get(grant_id)
    exclusions = [*(one for known in book.of_zone(zone, now) for one in known.exclusions), *halted]
    bounds = {version: _allowed(entry, exclusions, version) for version in (4, 6)}
    return ScopeMask(
        first={version: column_of((low for low, _ in spans), version) for version, spans in bounds.items()},
        last={version: column_of((high for _, high in spans), version) for version, spans in bounds.items()},
        tcp=_port_flags(entry.grant.tcp_ports if entry else ()),
        udp=_port_flags(entry.grant.udp_ports if entry else ()),
        icmp=bool(entry and entry.grant.icmp),
    )


def _allowed(entry: KnownGrant | None, exclusions: list[Network], version: int) -> list[tuple[int, int]]:
    """The granted spans of a version without the excluded ones: first and last address as numbers, ascending, none touching another."""
    granted = _joined(_span(one) for one in (entry.networks if entry else ()) if one.version == version)
    out = _joined(_span(one) for one in (*exclusions, MAPPED) if one.version == version)
    kept: list[tuple[int, int]] = []
    for low, high in granted:
        for first, last in out:
            if last < low or first > high:
                continue
            if first > low:
                kept.append((low, first - 1))
            low = last + 1
        if low <= high:
            kept.append((low, high))
    return kept


def _span(network: Network) -> tuple[int, int]:
    return int(network.network_address), int(network.broadcast_address)


def _joined(spans: Iterable[tuple[int, int]]) -> list[tuple[int, int]]:
    found: list[tuple[int, int]] = []
    for low, high in sorted(spans):
        if found and low <= found[-1][1] + 1:
            found[-1] = found[-1][0], max(found[-1][1], high)
        else:
            found.append((low, high))
    return found


def _port_flags(ranges: Iterable[PortRange]) -> Flags:
    flags = np.zeros(65_536, dtype=bool)
    for one in ranges:
        flags[one.first : one.last + 1] = True
    return flags
