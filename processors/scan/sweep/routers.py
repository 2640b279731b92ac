"""What routers and hosts say of our probes in ICMP: that a port, a host or a network can't be reached. Rare, so read one by one."""

from __future__ import annotations

import socket
import struct

from processors.scan.sweep import filters
from processors.scan.sweep.ledger import Key, PortState

ETH_P_ALL = 3
MOST_BYTES = 2048
Answer = tuple[Key, int, int, PortState]


def unreachables_socket(version: int) -> socket.socket:
    """A packet socket on all interfaces, from the IP header on, filtered to ICMP unreachables."""
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
    sock.setblocking(False)
    filters.attach(sock, filters.unreachables(version, MOST_BYTES))
    return sock


def read_unreachable(data: bytes, version: int, own: str) -> Answer | None:
    """(Port that was probed, our port, its sequence number, state) of an ICMP unreachable (RFC 792; RFC 4443, 3.1), or None.

    It quotes at least 8 bytes of our TCP header. What our own kernel says, from the address `own`, means that a neighbour is silent.
    """
    protocol, sender, _, start = ip_header(data, version)
    if protocol not in (socket.IPPROTO_ICMP, socket.IPPROTO_ICMPV6) or len(data) < start + 8:
        return None
    quoted, _, target, inner = ip_header(data[start + 8 :], version)
    inner += start + 8
    if quoted != socket.IPPROTO_TCP or len(data) < inner + 8 or sender == own:
        return None  # a message of our own kernel says that a neighbour is silent to ARP or ND, not that a router knows no way
    our_port, port, sequence = struct.unpack_from("!HHI", data, inner)
    port_unreachable = data[start + 1] == (4 if version == 6 else 3)
    return (target, port), our_port, sequence, PortState.CLOSED if port_unreachable else PortState.UNREACHABLE


def ip_header(data: bytes, version: int) -> tuple[int, str, str, int]:
    """(Protocol, source, destination, where the payload starts) of an IP packet; protocol -1 if it is none. No extension headers."""
    size = 40 if version == 6 else 20
    if len(data) < size or data[0] >> 4 != version:
        return -1, "", "", 0
    if version == 6:
        return data[6], socket.inet_ntop(socket.AF_INET6, data[8:24]), socket.inet_ntop(socket.AF_INET6, data[24:40]), size
    return data[9], socket.inet_ntoa(data[12:16]), socket.inet_ntoa(data[16:20]), (data[0] & 15) * 4
