"""Writes the SYNs of a sweep as rows of bytes, thousands at once, and only those that the grant covers.

A template of each IP version is written out here (loading scapy takes longer than a small sweep; a test holds them equal to what scapy
builds). Destination, source port, sequence number and checksums are columns; a checksum is the template's own sum plus the words that
differ (RFC 1071; RFC 1624 for why that is enough), folded and inverted.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.scan.scope.mask import Addresses, Flags, Ports, ScopeMask
from processors.scan.sweep.cookies import Words, cookies

Frames = NDArray[np.uint8]
IP4_SUM, IP4_DESTINATION = 10, 16
IP6_DESTINATION = 24
SOURCE_PORT, DESTINATION_PORT, SEQUENCE, TCP_SUM = 0, 2, 4, 16
MSS, MSS_OPTION = 1460, 2
WINDOW, TTL, TCP, SYN = 1024, 64, 6, 0x02
DO_NOT_FRAGMENT = 0x4000


@dataclass(frozen=True, slots=True)
class Written:
    """Frames that may leave, one a row, and which of the wanted probes they are. What is not among them left no trace."""

    frames: Frames
    allowed: Flags


class SynWriter:
    """Writes the SYNs of one sweep from one source address: from the IP header on, or behind an Ethernet header if one is given."""

    def __init__(self, source: str, first_port: int, secret: bytes, ethernet: bytes = b"") -> None:
        self.version = 6 if ":" in source else 4
        self._first_port, self._secret = first_port, secret
        packet = template(source)
        self._tcp = 20 if self.version == 4 else 40
        self._row, self._ip = np.frombuffer(ethernet + packet, dtype=np.uint8), len(ethernet)
        self._ip_sum = _word_sum(packet[:20])
        self._tcp_sum = _word_sum(packet[self._tcp :]) + _pseudo_sum(packet, self.version)

    def write(self, addresses: Addresses, ports: Ports, attempt: int, scope: ScopeMask, macs: Frames | None = None) -> Written:
        """The SYNs to these destinations at an attempt (from 1), without those that the scope does not allow.

        `macs`: next hops (6 bytes a row) that take the place of the one in the Ethernet header.
        """
        allowed = scope.allows(addresses, ports)
        addresses, ports = addresses[allowed], ports[allowed]
        words = words_of(addresses)
        sequence = cookies(self._secret, words, ports.astype(np.uint64), np.uint64(attempt))
        source_port = self._first_port + attempt - 1
        frames = np.tile(self._row, (len(addresses), 1))
        target_sum: Words = np.sum([_sixteens(word) for word in words], axis=0, dtype=np.uint64)
        checksum = self._tcp_sum + target_sum + source_port + ports + (sequence >> np.uint32(16)) + (sequence & np.uint32(0xFFFF))
        if macs is not None:
            frames[:, :6] = macs[allowed]
        packets = frames[:, self._ip :]
        if self.version == 4:
            put(packets, IP4_DESTINATION, addresses.astype(">u4"))
            put(packets, IP4_SUM, _folded(target_sum + np.uint64(self._ip_sum)))
        else:
            put(packets, IP6_DESTINATION, addresses)
        packets[:, self._tcp + SOURCE_PORT : self._tcp + SOURCE_PORT + 2] = np.frombuffer(source_port.to_bytes(2, "big"), np.uint8)
        put(packets, self._tcp + DESTINATION_PORT, ports.astype(">u2"))
        put(packets, self._tcp + SEQUENCE, sequence.astype(">u4"))
        put(packets, self._tcp + TCP_SUM, _folded(checksum))
        return Written(frames, allowed)


def template(source: str) -> bytes:
    """A SYN from the IP header on, with zeros where probes differ and in both checksums (RFC 791, 3.1; RFC 8200, 3; RFC 9293, 3.1)."""
    tcp = struct.pack("!HHIIBBHHHBBH", 0, 0, 0, 0, 6 << 4, SYN, WINDOW, 0, 0, MSS_OPTION, 4, MSS)
    if ":" in source:
        return struct.pack("!IHBB", 6 << 28, len(tcp), TCP, TTL) + socket.inet_pton(socket.AF_INET6, source) + bytes(16) + tcp
    header = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, DO_NOT_FRAGMENT, TTL, TCP, 0)
    return header + socket.inet_aton(source) + bytes(4) + tcp


def words_of(addresses: Addresses) -> list[Words]:
    """Addresses as 64-bit words: one of an IPv4 address, two of an IPv6 address."""
    if addresses.dtype.kind == "u":
        return [addresses.astype(np.uint64)]
    halves = np.frombuffer(addresses.tobytes(), dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return [np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])]


def put(frames: Frames, offset: int, column: NDArray[np.generic]) -> None:
    """Write a column whose items are in network order."""
    width = column.dtype.itemsize
    frames[:, offset : offset + width] = np.frombuffer(column.tobytes(), dtype=np.uint8).reshape(-1, width)


def _sixteens(words: Words) -> NDArray[np.uint64]:
    """The sum of the 16-bit pieces of each word."""
    low = np.uint64(0xFFFF)
    total: Words = (words & low) + (words >> np.uint64(16) & low) + (words >> np.uint64(32) & low) + (words >> np.uint64(48))
    return total


def _folded(sums: NDArray[np.uint64]) -> NDArray[np.generic]:
    """The one's complement of a sum of 16-bit words, in network order (RFC 1071, 1)."""
    low = np.uint64(0xFFFF)
    sums = (sums & low) + (sums >> np.uint64(16))
    sums = (sums & low) + (sums >> np.uint64(16))
    return (sums ^ low).astype(">u2")


def checksums(rows: Frames, protocol: int, length: int) -> NDArray[np.generic]:
    """Checksums of rows that hold source, destination and a payload of so many bytes, whose own checksum is 0 (RFC 8200, 8.1)."""
    words = np.frombuffer(np.ascontiguousarray(rows).tobytes(), dtype=">u2").reshape(len(rows), -1)
    return _folded(words.sum(axis=1, dtype=np.uint64) + np.uint64(protocol + length))


def _word_sum(data: bytes) -> int:
    return int(np.frombuffer(data + bytes(len(data) % 2), dtype=">u2").astype(np.uint64).sum())


def _pseudo_sum(packet: bytes, version: int) -> int:
    """Source address, protocol and length of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1); the destination is added for each probe."""
    source, start = (packet[12:16], 20) if version == 4 else (packet[8:24], 40)
    return _word_sum(source) + 6 + len(packet) - start
