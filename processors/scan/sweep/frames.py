"""Writes the SYNs of a sweep as rows of bytes, thousands at once, and only those that the grant covers.

A template of each IP version is made once with scapy. Destination, source port, sequence number and checksums are columns; a checksum
is the template's own sum plus the words that differ (RFC 1071; RFC 1624 for why that is enough), folded and inverted.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from processors.scan.scope.mask import Addresses, Flags, Ports, ScopeMask
from processors.scan.sweep.cookies import Words, cookies

Frames = NDArray[np.uint8]
IP4_SUM, IP4_DESTINATION = 10, 16
IP6_DESTINATION = 24
SOURCE_PORT, DESTINATION_PORT, SEQUENCE, TCP_SUM = 0, 2, 4, 16
MSS = 1460


@dataclass(frozen=True, slots=True)
class Written:
    """Frames that may leave, one a row, and which of the wanted probes they are. What is not among them left no trace."""

    frames: Frames
    allowed: Flags


class SynWriter:
    """Writes the SYNs of one sweep from one source address, from the IP header on."""

    def __init__(self, source: str, first_port: int, secret: bytes) -> None:
        self.version = ipaddress.ip_address(source).version
        self._first_port, self._secret = first_port, secret
        packet = template(source)
        self._tcp = 20 if self.version == 4 else 40
        self._row = np.frombuffer(packet, dtype=np.uint8)
        self._ip_sum = _word_sum(packet[:20])
        self._tcp_sum = _word_sum(packet[self._tcp :]) + _pseudo_sum(packet, self.version)

    def write(self, addresses: Addresses, ports: Ports, attempt: int, scope: ScopeMask) -> Written:
        """The SYNs to these destinations at an attempt (from 1), without those that the scope does not allow."""
        allowed = scope.allows(addresses, ports)
        addresses, ports = addresses[allowed], ports[allowed]
        words = words_of(addresses)
        sequence = cookies(self._secret, words, ports.astype(np.uint64), np.uint64(attempt))
        source_port = self._first_port + attempt - 1
        frames = np.tile(self._row, (len(addresses), 1))
        target_sum: Words = np.sum([_sixteens(word) for word in words], axis=0, dtype=np.uint64)
        checksum = self._tcp_sum + target_sum + source_port + ports + (sequence >> np.uint32(16)) + (sequence & np.uint32(0xFFFF))
        if self.version == 4:
            _put(frames, IP4_DESTINATION, addresses.astype(">u4"))
            _put(frames, IP4_SUM, _folded(target_sum + np.uint64(self._ip_sum)))
        else:
            _put(frames, IP6_DESTINATION, addresses)
        frames[:, self._tcp + SOURCE_PORT : self._tcp + SOURCE_PORT + 2] = np.frombuffer(source_port.to_bytes(2, "big"), np.uint8)
        _put(frames, self._tcp + DESTINATION_PORT, ports.astype(">u2"))
        _put(frames, self._tcp + SEQUENCE, sequence.astype(">u4"))
        _put(frames, self._tcp + TCP_SUM, _folded(checksum))
        return Written(frames, allowed)


def template(source: str) -> bytes:
    """A SYN from the IP header on, with zeros where probes differ and in both checksums."""
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    tcp = TCP(sport=0, dport=0, flags="S", seq=0, window=1024, options=[("MSS", MSS)], chksum=0)
    if ":" in source:
        return bytes(IPv6(src=source, dst="::", hlim=64) / tcp)
    return bytes(IP(src=source, dst="0.0.0.0", flags="DF", id=0, chksum=0) / tcp)


def words_of(addresses: Addresses) -> list[Words]:
    """Addresses as 64-bit words: one of an IPv4 address, two of an IPv6 address."""
    if addresses.dtype.kind == "u":
        return [addresses.astype(np.uint64)]
    halves = np.frombuffer(addresses.tobytes(), dtype=">u8").reshape(-1, 2).astype(np.uint64)
    return [np.ascontiguousarray(halves[:, 0]), np.ascontiguousarray(halves[:, 1])]


def _put(frames: Frames, offset: int, column: NDArray[np.generic]) -> None:
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


def _word_sum(data: bytes) -> int:
    return int(np.frombuffer(data + bytes(len(data) % 2), dtype=">u2").astype(np.uint64).sum())


def _pseudo_sum(packet: bytes, version: int) -> int:
    """Source address, protocol and length of the pseudo header (RFC 9293, 3.1; RFC 8200, 8.1); the destination is added for each probe."""
    source, start = (packet[12:16], 20) if version == 4 else (packet[8:24], 40)
    return _word_sum(source) + 6 + len(packet) - start
