"""Sees the packets that leave this machine for some subnets: a ring that the kernel fills behind a BPF filter.

A tap sits where a packet is handed to the device, behind routing, neighbours, firewall and queues: what it sees has left. So it sees
what no program of ours could count: the kernel's acknowledgements and resets, and what nmap or traceroute sent.
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Collection, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processors.scan.scope.mask import Addresses, Ports
from processors.scan.sweep.ring import Ring
from processors.scan.sweep.routes import route_to
from processors.scan.witness.account import Packets
from processors.scan.witness.summary import CODES, KINDS
from schemas.events.touches import PacketKind

ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
BLOCK_BYTES: Final = 1 << 19
BLOCKS: Final = 16
RETIRE_MS: Final = 100
# offsets in struct tpacket3_hdr, and struct sockaddr_ll behind it
SECONDS, NANOSECONDS, NETWORK, PROTOCOL, INTERFACE = 4, 8, 26, 50, 52
SEEN: Final = 64
"""Bytes that are kept of a packet: an IPv4 header with all its options, and the ports behind it."""
OUTGOING: Final = 4  # PACKET_OUTGOING
LD_W, LD_H, LD_B, AND, JA, JEQ, JGT, JGE, RET = 0x20, 0x28, 0x30, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
AD_PROTOCOL, AD_PACKET_TYPE = 0xFFFFF000, 0xFFFFF004  # SKF_AD_OFF and what the kernel knows beside the bytes
OFFSET, NETWORK_OFFSET = struct.Struct("=I"), struct.Struct("=H")
KIND_OF = np.full(256, CODES[PacketKind.OTHER], dtype=np.uint8)
KIND_OF[[6, 17, 1, 58]] = [CODES[one] for one in (PacketKind.TCP, PacketKind.UDP, PacketKind.ICMP, PacketKind.ICMP)]
HAS_PORTS = np.array([kind in (PacketKind.TCP, PacketKind.UDP) for kind in KINDS])
"""By the code of a kind."""
Code = tuple[int, int, int, int]
DROP: Final[Code] = (RET, 0, 0, 0)
KEEP: Final[Code] = (RET, 0, 0, SEEN)
LEAVES: Final[list[Code]] = [(LD_B, 0, 0, AD_PACKET_TYPE), (JEQ, 1, 0, OUTGOING), DROP, (LD_H, 0, 0, AD_PROTOCOL)]
"""Drops what does not leave; the protocol is loaded then."""
DISCOVERY: Final[list[Code]] = [(LD_B, 0, 0, 6), (JEQ, 0, 4, 58), (LD_B, 0, 0, 40), (JGE, 0, 2, 133), (JGT, 1, 0, 137), DROP]
MOST_NAMED: Final = 64


def program(subnets: Collection[str]) -> list[Code]:
    """The filter (linux/filter.h: code, jt, jf, k) for what leaves for these subnets, /24 or /64. Neighbour discovery is left out.

    For many subnets it passes all that leaves: to write it anew for each unit of a fast sweep costs more than to read a little too much.
    """
    if len(subnets) > MOST_NAMED:
        return [*LEAVES, (JEQ, 0, 1, ETH_P_IP), KEEP, (JEQ, 1, 0, ETH_P_IPV6), DROP, *DISCOVERY, KEEP]
    networks = [ipaddress.ip_network(one) for one in subnets]
    four = [code for one in networks if one.version == 4 for code in ((JEQ, 0, 1, int(one.network_address)), KEEP)]
    six = [code for one in networks if one.version == 6 for code in _subnet6(int(one.network_address))]
    ipv4: list[Code] = [(LD_W, 0, 0, 16), (AND, 0, 0, 0xFFFFFF00), *four, DROP]
    ipv6: list[Code] = [(JEQ, 1, 0, ETH_P_IPV6), DROP, *DISCOVERY, *six, DROP]
    return [*LEAVES, (JEQ, 1, 0, ETH_P_IP), (JA, 0, 0, len(ipv4)), *ipv4, *ipv6]


def _subnet6(network: int) -> tuple[Code, ...]:
    high, low = network >> 96, network >> 64 & 0xFFFFFFFF
    return (LD_W, 0, 0, 24), (JEQ, 0, 3, high), (LD_W, 0, 0, 28), (JEQ, 0, 1, low), KEEP


class Tap:
    """Packets that leave for these subnets, from now on, on all interfaces of the namespace. Needs CAP_NET_RAW; raises OSError without."""

    def __init__(self, subnets: Collection[str]) -> None:
        self._watched = self._named(subnets)
        self._ring = Ring(program(subnets), BLOCKS, BLOCK_BYTES, RETIRE_MS)

    @staticmethod
    def _named(subnets: Collection[str]) -> frozenset[str] | None:
        return frozenset(subnets) if len(subnets) <= MOST_NAMED else None

    def watch(self, subnets: Collection[str]) -> None:
        """Let these subnets count from now on, and no others (where they are many: all)."""
        if self._named(subnets) == self._watched:
            return
        self._watched = self._named(subnets)
        self._ring.filter(program(subnets))

    def fileno(self) -> int:
        """For who waits until a block is full, or `RETIRE_MS` old."""
        return self._ring.fileno()

    def read(self) -> Iterator[Packets]:
        """All that blocks hold which the kernel has handed over, by block and IP version."""
        for block, count, first in self._ring.blocks():
            yield from _packets(_rows(block, count, first))

    def missed(self) -> int:
        """Packets for which the ring had no room, since this was last asked."""
        return self._ring.drops()

    def close(self) -> None:
        """Give the ring back."""
        self._ring.close()


def _rows(block: NDArray[np.uint8], count: int, first: int) -> NDArray[np.uint8]:
    """A row a packet, from its header on: the block itself where all are of one length, as a sweep's are.

    A packet may be shorter than its row; what is behind it is not looked at.
    """
    (step,) = OFFSET.unpack_from(block.data, first)
    if step and first + count * step <= BLOCK_BYTES:
        rows = block[first : first + count * step].reshape(count, step)
        if (_field(rows[:-1], 0, np.uint32) == step).all():
            return rows
    places = [first]
    for _ in range(count - 1):
        places.append(places[-1] + OFFSET.unpack_from(block.data, places[-1])[0])
    (network,) = NETWORK_OFFSET.unpack_from(block.data, first + NETWORK)
    gathered: NDArray[np.uint8] = block[np.minimum(np.array(places)[:, None] + np.arange(network + SEEN), BLOCK_BYTES - 1)]
    return gathered


def _packets(rows: NDArray[np.uint8]) -> Iterator[Packets]:
    """The packets of a block, IPv4 and IPv6 apart."""
    protocols = _field(rows, PROTOCOL, ">u2")
    times = _field(rows, SECONDS, np.uint32) + _field(rows, NANOSECONDS, np.uint32) / 1e9
    interfaces = _field(rows, INTERFACE, np.int32)
    headers = rows[:, int(_field(rows[:1], NETWORK, np.uint16)[0]) :]
    for protocol in (ETH_P_IP, ETH_P_IPV6):
        mine = protocols == protocol
        if mine.any():
            some = headers[mine]
            addresses, kinds, ports = _ipv4(some) if protocol == ETH_P_IP else _ipv6(some)
            yield Packets(addresses, kinds, ports, interfaces[mine], times[mine])


def _ipv4(rows: NDArray[np.uint8]) -> tuple[Addresses, NDArray[np.uint8], Ports]:
    """Destination, kind and port of packets (RFC 791). Of a fragment only the first has ports."""
    kinds, starts = KIND_OF[rows[:, 9]], (rows[:, 0] & 15).astype(np.int64) * 4
    later = ((rows[:, 6] & 0x1F) | rows[:, 7]) != 0
    return _field(rows, 16, ">u4").astype(np.uint32), kinds, _ports(rows, starts, HAS_PORTS[kinds] & ~later)


def _ipv6(rows: NDArray[np.uint8]) -> tuple[Addresses, NDArray[np.uint8], Ports]:
    """The same of IPv6 (RFC 8200). What has extension headers is of kind `other`."""
    kinds = KIND_OF[rows[:, 6]]
    return _field(rows, 24, "S16"), kinds, _ports(rows, np.full(len(rows), 40), HAS_PORTS[kinds])


def _ports(rows: NDArray[np.uint8], starts: NDArray[np.int64], there: NDArray[np.bool_]) -> Ports:
    """The destination ports behind headers of these lengths, 0 where there are none."""
    row, high = np.arange(len(rows)), np.minimum(starts + 2, rows.shape[1] - 2)
    ports: Ports = rows[row, high].astype(np.uint16) << np.uint16(8) | rows[row, high + 1]
    ports[~there] = 0
    return ports


def _field(rows: NDArray[np.uint8], offset: int, kind: type[np.generic] | str) -> NDArray[Any]:
    """A column of numbers, or of bytes."""
    fields: NDArray[Any] = np.ascontiguousarray(rows[:, offset : offset + np.dtype(kind).itemsize]).view(kind)
    return fields.reshape(len(rows))


def interface_to(address: str) -> int:
    """The number of the interface that the route to an address names. Raises OSError where there is none."""
    return route_to(address).interface
