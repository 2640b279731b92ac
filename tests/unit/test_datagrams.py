"""What an ICMP error that the kernel hands over says of a UDP port."""

from __future__ import annotations

import socket
import struct

import pytest

from processors.scan.sweep.datagrams import Datagrams, offender_of, state_of
from processors.scan.sweep.ledger import PortState

TARGET, ROUTER = "198.18.0.7", "198.18.0.1"
TARGET6, ROUTER6 = "2001:db8::7", "2001:db8::1"
CLOSED, UNREACHABLE = PortState.CLOSED, PortState.UNREACHABLE


def error(origin: int, kind: int, code: int, offender: str) -> bytes:
    """A struct sock_extended_err with the address of who sent the message (ip(7))."""
    if ":" in offender:
        address = struct.pack("=HHI16sI", socket.AF_INET6, 0, 0, socket.inet_pton(socket.AF_INET6, offender), 0)
    else:
        address = struct.pack("=HH4s8x", socket.AF_INET, 0, socket.inet_pton(socket.AF_INET, offender))
    return struct.pack("=IBBBBII", 111, origin, kind, code, 0, 0, 0) + address


@pytest.mark.parametrize(
    ("told", "target", "state"),
    [
        (error(2, 3, 3, TARGET), TARGET, CLOSED),
        (error(2, 3, 3, ROUTER), TARGET, UNREACHABLE),  # a firewall's word for the port of another
        (error(2, 3, 1, ROUTER), TARGET, UNREACHABLE),
        (error(2, 3, 13, TARGET), TARGET, UNREACHABLE),
        (error(2, 3, 1, "127.0.0.1"), TARGET, None),  # our own kernel's: the neighbour is silent
        (error(2, 11, 0, ROUTER), TARGET, None),
        (error(1, 3, 3, TARGET), TARGET, None),  # no ICMP at all
        (error(3, 1, 4, TARGET6), TARGET6, CLOSED),
        (error(3, 1, 4, ROUTER6), TARGET6, UNREACHABLE),
        (error(3, 1, 0, ROUTER6), TARGET6, UNREACHABLE),
        (error(3, 1, 3, "::1"), TARGET6, None),
        (error(3, 2, 0, ROUTER6), TARGET6, None),
        (error(2, 3, 3, TARGET)[:20], TARGET, None),
        (b"", TARGET, None),
    ],
)
def test_closed_is_only_what_the_host_itself_says(told: bytes, target: str, state: PortState | None) -> None:
    assert state_of(told, target) == state


def test_an_offender_that_can_not_be_read_is_none() -> None:
    assert offender_of(b"") is None
    assert offender_of(struct.pack("=H", 1) + bytes(30)) is None


def test_an_error_of_an_earlier_datagram_keeps_no_later_one_from_leaving() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as gone:
        for sock in (heard, gone):
            sock.bind(("127.0.0.1", 0))
        heard.settimeout(5)
        closed = gone.getsockname()[1]
        gone.close()
        way = Datagrams(4)
        try:
            for _ in range(3):
                assert way.send(b"x", "127.0.0.1", closed) is None
                assert way.send(b"y", "127.0.0.1", heard.getsockname()[1]) is None
                assert heard.recv(10) == b"y"
            told = list(way.complaints())
        finally:
            way.close()
    assert {(one.address, one.port, one.state) for one in told} == {("127.0.0.1", closed, CLOSED)}
