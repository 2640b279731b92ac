"""Filters in the kernel, in the language of bpf(4): only answers come up, cut to their headers.

Written out here, since compiling them with scapy and libpcap takes longer than a small sweep; a test holds them equal to what those make
of the expression in each docstring. Offsets count from the IP header (a packet socket of kind SOCK_DGRAM).
"""

from __future__ import annotations

import ctypes
import socket
import struct
from typing import Final

SO_ATTACH_FILTER: Final = 26
LOAD_BYTE, LOAD_HALF, LOAD_HALF_X, LOAD_BYTE_X, LOAD_X_HEADER = 0x30, 0x28, 0x48, 0x50, 0xB1
AND, EQUAL, AT_LEAST, ABOVE, ANY_BIT, RETURN = 0x54, 0x15, 0x35, 0x25, 0x45, 0x06
Program = list[tuple[int, int, int, int]]
"""Instructions: code, jump if true, jump if false, number."""
TCP, ICMP, ICMP6 = 6, 1, 58


def answers(version: int, first: int, last: int, most_bytes: int) -> Program:
    """`ip and tcp and dst portrange first-last`, or the same of ip6; passes so many bytes of what matches."""
    port = [(LOAD_HALF_X, 0, 0, 2)] if version == 4 else [(LOAD_HALF, 0, 0, 42)]
    return _program(version, TCP, [*port, (AT_LEAST, 0, -1, first), (ABOVE, -1, 0, last)], most_bytes)


def unreachables(version: int, most_bytes: int) -> Program:
    """`icmp[0] = 3`, or `icmp6 and ip6[40] = 1`."""
    kind = [(LOAD_BYTE_X, 0, 0, 0), (EQUAL, 0, -1, 3)] if version == 4 else [(LOAD_BYTE, 0, 0, 40), (EQUAL, 0, -1, 1)]
    return _program(version, ICMP if version == 4 else ICMP6, kind, most_bytes)


def advertisements(most_bytes: int) -> Program:
    """`icmp6 and ip6[40] = 136`: what a neighbour says of itself (RFC 4861, 4.4)."""
    return _program(6, ICMP6, [(LOAD_BYTE, 0, 0, 40), (EQUAL, 0, -1, 136)], most_bytes)


def _program(version: int, protocol: int, last: Program, most_bytes: int) -> Program:
    """A filter for a protocol of an IP version, without fragments, and a last test. A jump of -1 goes to the end, which drops."""
    head = [(LOAD_BYTE, 0, 0, 0), (AND, 0, 0, 0xF0), (EQUAL, 0, -1, version << 4), (LOAD_BYTE, 0, 0, 9 if version == 4 else 6)]
    head.append((EQUAL, 0, -1, protocol))
    if version == 4:
        head += [(LOAD_HALF, 0, 0, 6), (ANY_BIT, -1, 0, 0x1FFF), (LOAD_X_HEADER, 0, 0, 0)]
    body = [*head, *last, (RETURN, 0, 0, most_bytes), (RETURN, 0, 0, 0)]
    end = len(body) - 1
    far = [end - place - 1 for place in range(len(body))]
    return [(code, far[at] if yes < 0 else yes, far[at] if no < 0 else no, number) for at, (code, yes, no, number) in enumerate(body)]


def attach(sock: socket.socket, program: Program) -> None:
    """Let the kernel drop what the program does not pass (struct sock_fprog of socket(7))."""
    code = b"".join(struct.pack("=HBBI", *one) for one in program)
    buffer = ctypes.create_string_buffer(code, len(code))
    sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("HP", len(program), ctypes.addressof(buffer)))
