"""What was sent to the addresses of one unit, counted by address, kind and port. Pure: no clock, no socket.

Packets are added as columns, thousands at once, and summed up when the account is taken. A packet that passes two of our interfaces
(a VLAN and the card below it) is seen on both; it counts on the one that the route to its address names.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from processors.scan.scope.mask import Addresses, Flags, Ports, column_of
from processors.scan.witness.summary import CODES, Sums, told
from schemas.events.touches import PacketKind, Touch

TOLD = 0
"""In place of an interface's number: what did not pass the tap, and was told by who sent it."""
RouteTo = Callable[[str], int]
"""The number of the interface that the route to an address names. Raises OSError where there is none."""


@dataclass(frozen=True, slots=True)
class Packets:
    """Packets of one IP version, a row each: destination, kind (its code), port (0: none), interface, seconds since 1970."""

    addresses: Addresses
    kinds: NDArray[np.uint8]
    ports: Ports
    interfaces: NDArray[np.int32]
    times: NDArray[np.float64]

    def only(self, flags: NDArray[Any]) -> Packets:
        """Some of them."""
        return Packets(*(column[flags] for column in self.columns()))

    @classmethod
    def joined(cls, parts: list[Self]) -> Packets:
        """All of at least one part."""
        return Packets(*(np.concatenate(columns) for columns in zip(*(one.columns() for one in parts), strict=True)))

    def columns(self) -> list[NDArray[Any]]:
        """Its columns, in their order."""
        return [getattr(self, one.name) for one in fields(self)]


@dataclass(slots=True)
class Account:
    """The packets to some addresses of one IP version that are not told yet. `since`: what left earlier is not this account's.

    `exact` falls where packets were missed, or could not be told apart.
    """

    addresses: tuple[str, ...]
    since: float = 0.0
    exact: bool = True
    version: int = field(init=False)
    _kept: list[Packets] = field(default_factory=list)
    _column: Addresses = field(init=False)
    _numbers: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.version = 6 if ":" in self.addresses[0] else 4
        self._numbers = tuple(sorted({int(ipaddress.ip_address(one)) for one in self.addresses}))
        self._column = column_of(self._numbers, self.version)

    def add(self, packets: Packets) -> Flags:
        """Keep those that are this account's; which these are."""
        places = np.minimum(np.searchsorted(self._column, packets.addresses), len(self._column) - 1)
        ours: Flags = (self._column[places] == packets.addresses) & (packets.times >= self.since)
        if ours.any():
            self._kept.append(packets.only(ours))
        return ours

    def sent(self, addresses: Addresses, ports: Ports, kind: PacketKind, at: float) -> None:
        """Packets that the tap can't see (AF_XDP, PACKET_QDISC_BYPASS), told by who sent them; `at` in seconds since 1970."""
        count = len(addresses)
        kinds, told_by = np.full(count, CODES[kind], dtype=np.uint8), np.full(count, TOLD, dtype=np.int32)
        self.add(Packets(addresses, kinds, ports, told_by, np.full(count, at)))

    def take(self) -> list[Packets]:
        """The packets that are not told yet; the account is empty then."""
        kept, self._kept = self._kept, []
        return kept

    def told(self, taken: list[Packets], route_to: RouteTo) -> tuple[Touch, ...]:
        """What was taken, in few entries."""
        if not taken:
            return ()
        packets = Packets.joined(taken)
        hosts = np.searchsorted(self._column, packets.addresses)
        counted = self._once(hosts, packets.interfaces, route_to)
        packets = packets.only(counted)
        return told(Sums.of(hosts[counted], packets.kinds, packets.ports, packets.times), self._numbers, self.version)

    def _once(self, hosts: NDArray[np.int64], interfaces: NDArray[np.int32], route_to: RouteTo) -> Flags:
        """Which packets count: where a host's were seen on several interfaces, those on the one that its route names, and what was told."""
        counted = np.ones(len(hosts), dtype=bool)
        if len(np.unique(interfaces[interfaces != TOLD])) < 2:
            return counted
        for host in np.unique(hosts):
            seen = (hosts == host) & (interfaces != TOLD)
            if len(np.unique(interfaces[seen])) < 2:
                continue
            try:
                counted &= ~seen | (interfaces == route_to(address_of(self._numbers[host], self.version)))
            except OSError:
                self.exact = False
        return counted


def address_of(number: int, version: int) -> str:
    """An address as text (RFC 5952 for IPv6)."""
    return str(ipaddress.IPv4Address(number) if version == 4 else ipaddress.IPv6Address(number))
