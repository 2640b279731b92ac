"""Sees the packets that leave this machine for some subnets: a ring that the kernel fills (TPACKET_V3, packet(7)) behind a BPF filter.

A tap sits where a packet is handed to the device, behind routing, neighbours, firewall and queues: what it sees has left. So it sees
what no program of ours could count: the kernel's acknowledgements and resets, and what nmap or traceroute sent.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import mmap
import os
import socket
import struct
from collections.abc import Collection, Iterator
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from processors.scan.witness.account import Packets
from processors.scan.witness.summary import CODES
from schemas.events.touches import PacketKind

SOL_PACKET, PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION, TPACKET_V3 = 263, 5, 6, 10, 2
SO_ATTACH_FILTER, ETH_P_ALL, ETH_P_IP, ETH_P_IPV6 = 26, 3, 0x0800, 0x86DD
BLOCK_BYTES: Final = 1 << 16
BLOCKS: Final = 128
FRAME_BYTES: Final = 2048
RETIRE_MS: Final = 50
# offsets in struct tpacket_block_desc, struct tpacket3_hdr, and struct sockaddr_ll behind it
STATUS, COUNT, FIRST = 8, 12, 16
SECONDS, NANOSECONDS, NETWORK, PROTOCOL, INTERFACE = 4, 8, 26, 50, 52
HEADER: Final = 68
SEEN: Final = 64
"""Bytes that are kept of a packet: an IPv4 header with all its options, and the ports behind it."""
TO_USER: Final = 1
OUTGOING: Final = 4  # PACKET_OUTGOING
LD_W, LD_H, LD_B, AND, JA, JEQ, JGT, JGE, RET = 0x20, 0x28, 0x30, 0x54, 0x05, 0x15, 0x25, 0x35, 0x06
AD_PROTOCOL, AD_PACKET_TYPE = 0xFFFFF000, 0xFFFFF004  # SKF_AD_OFF and what the kernel knows beside the bytes
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
        self._next = 0
        self._watched: frozenset[str] | None = frozenset()
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        try:
            self._socket.setsockopt(SOL_PACKET, PACKET_VERSION, TPACKET_V3)
            ring = (BLOCK_BYTES, BLOCKS, FRAME_BYTES, BLOCK_BYTES * BLOCKS // FRAME_BYTES, RETIRE_MS, 0, 0)
            self._socket.setsockopt(SOL_PACKET, PACKET_RX_RING, struct.pack("7I", *ring))
            self.watch(subnets)
            self._map = mmap.mmap(self._socket.fileno(), BLOCK_BYTES * BLOCKS)
            _hear_all_interfaces(self._socket)
        except BaseException:
            self._socket.close()
            raise
        self._bytes = np.frombuffer(self._map, dtype=np.uint8)

    def watch(self, subnets: Collection[str]) -> None:
        """Let these subnets count from now on, and no others (where they are many: all)."""
        watched = frozenset(subnets) if len(subnets) <= MOST_NAMED else None
        if watched == self._watched:
            return
        self._watched = watched
        codes = b"".join(struct.pack("HBBI", *code) for code in program(subnets))
        text = ctypes.create_string_buffer(codes, len(codes))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(codes) // 8, ctypes.addressof(text)))

    def fileno(self) -> int:
        """For who waits until a block is full, or `RETIRE_MS` old."""
        return self._socket.fileno()

    def read(self) -> Iterator[Packets]:
        """All that blocks hold which the kernel has handed over, by block and IP version."""
        for _ in range(BLOCKS):
            block = self._bytes[self._next * BLOCK_BYTES : (self._next + 1) * BLOCK_BYTES]
            words = block[:64].view(np.uint32)
            if not words[STATUS // 4] & TO_USER:
                return
            if words[COUNT // 4]:
                yield from _packets(block, _places(block, int(words[COUNT // 4]), int(words[FIRST // 4])))
            words[STATUS // 4] = 0
            self._next = (self._next + 1) % BLOCKS

    def missed(self) -> int:
        """Packets for which the ring had no room, since this was last asked."""
        _, drops, _ = struct.unpack("3I", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 12))
        return int(drops)

    def close(self) -> None:
        """Give ring and socket back."""
        del self._bytes
        self._map.close()
        self._socket.close()


def _places(block: NDArray[np.uint8], count: int, first: int) -> NDArray[np.int64]:
    """Where each packet's header begins: evenly spaced where all are of one length, which a sweep's are."""
    step = int(block[first : first + 4].view(np.uint32)[0])
    places = first + step * np.arange(count, dtype=np.int64)
    if places[-1] + HEADER <= BLOCK_BYTES and (_column(block, places[:-1], 0, np.uint32) == step).all():
        return places
    walked = [first]
    for _ in range(count - 1):
        walked.append(walked[-1] + int(block[walked[-1] : walked[-1] + 4].view(np.uint32)[0]))
    return np.array(walked, dtype=np.int64)


def _packets(block: NDArray[np.uint8], places: NDArray[np.int64]) -> Iterator[Packets]:
    protocols = _column(block, places, PROTOCOL, ">u2")
    networks = places + _column(block, places, NETWORK, np.uint16)
    # A packet may be shorter than what is read of it: that is then not looked at, but must not lie outside.
    rows = block[np.minimum(networks[:, None] + np.arange(SEEN), BLOCK_BYTES - 1)]
    times = _column(block, places, SECONDS, np.uint32) + _column(block, places, NANOSECONDS, np.uint32) / 1e9
    interfaces = _column(block, places, INTERFACE, np.int32)
    for protocol, address in ((ETH_P_IP, slice(16, 20)), (ETH_P_IPV6, slice(24, 40))):
        mine = protocols == protocol
        if not mine.any():
            continue
        some = rows[mine]
        if protocol == ETH_P_IP:
            addresses = np.ascontiguousarray(some[:, address]).view(">u4")[:, 0].astype(np.uint32)
            starts, inner = (some[:, 0] & 15).astype(np.int64) * 4, some[:, 9]
            fragment = ((some[:, 6] & 0x1F) | some[:, 7]) != 0  # not the first one: it has no ports
        else:
            addresses = np.ascontiguousarray(some[:, address]).view("S16")[:, 0]
            starts, inner = np.full(len(some), 40, dtype=np.int64), some[:, 6]
            fragment = np.zeros(len(some), dtype=bool)
        kinds = np.full(len(some), CODES[PacketKind.OTHER], dtype=np.uint8)
        for number, kind in ((6, PacketKind.TCP), (17, PacketKind.UDP), (1, PacketKind.ICMP), (58, PacketKind.ICMP)):
            kinds[inner == number] = CODES[kind]
        row = np.arange(len(some))
        ports = some[row, starts + 2].astype(np.uint16) << np.uint16(8) | some[row, starts + 3]
        ports[fragment | ~np.isin(kinds, (CODES[PacketKind.TCP], CODES[PacketKind.UDP]))] = 0
        yield Packets(addresses, kinds, ports, interfaces[mine], times[mine])


def _column(block: NDArray[np.uint8], places: NDArray[np.int64], offset: int, kind: type[np.generic] | str) -> NDArray[Any]:
    """The field at this offset of each header."""
    width = np.dtype(kind).itemsize
    fields: NDArray[Any] = block[places[:, None] + np.arange(offset, offset + width)].view(kind)[:, 0]
    return fields


def _hear_all_interfaces(sock: socket.socket) -> None:
    """Bind to every interface only now that filter and ring stand (struct sockaddr_ll); Python's own bind wants one interface by name."""
    address = struct.pack("=HHiHBB8s", socket.AF_PACKET, socket.htons(ETH_P_ALL), 0, 0, 0, 0, b"")
    if ctypes.CDLL(None, use_errno=True).bind(sock.fileno(), address, len(address)) != 0:
        number = ctypes.get_errno() or errno.EINVAL
        raise OSError(number, os.strerror(number))


def interface_to(address: str) -> int:
    """The number of the interface that the route to an address names. Raises OSError where there is none."""
    from pyroute2 import IPRoute
    from pyroute2.netlink.exceptions import NetlinkError

    try:
        with IPRoute() as kernel:
            return int(kernel.route("get", dst=address)[0].get_attr("RTA_OIF"))
    except NetlinkError as error:
        raise OSError(error.code, str(error)) from None
