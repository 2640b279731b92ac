"""What counts as an answer to a probe of ours, and what routers say of them."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.scan.scope.mask import column_of
from processors.scan.sweep.answers import Rows, answers_of
from processors.scan.sweep.cookies import cookies
from processors.scan.sweep.frames import words_of
from processors.scan.sweep.ledger import PortState
from processors.scan.sweep.routers import read_unreachable

HOSTS = {4: "198.18.210.130", 6: "2001:db8:18::130"}
US = {4: "198.18.210.1", 6: "2001:db8:18::1"}
OTHERS = {4: "198.18.210.10", 6: "2001:db8:18::10"}
SECRET = bytes(range(16))


def cookie(version: int, port: int = 80, attempt: int = 1) -> int:
    words = words_of(column_of([int(ipaddress.ip_address(HOSTS[version]))], version))
    return int(cookies(SECRET, words, np.array([port], dtype=np.uint64), np.uint64(attempt))[0])


def answer(version: int, acknowledged: int, flags: str = "SA", port: int = 80, our_port: int = 61_000, host: str | None = None) -> Rows:
    from scapy.layers.inet import IP, TCP
    from scapy.layers.inet6 import IPv6

    network = (IPv6 if version == 6 else IP)(src=host or HOSTS[version], dst=US[version])
    data = bytes(network / TCP(sport=port, dport=our_port, flags=flags, ack=acknowledged & 0xFFFFFFFF))
    return np.frombuffer(data, dtype=np.uint8)[None, : 60 if version == 6 else 40]


@pytest.mark.parametrize("version", [4, 6])
@pytest.mark.parametrize(("flags", "opened"), [("SA", True), ("RA", False), ("R", False)])
@pytest.mark.parametrize("attempt", [1, 2])
def test_an_answer_with_the_cookie_counts(version: int, flags: str, opened: bool, attempt: int) -> None:
    found = answers_of(answer(version, cookie(version, attempt=attempt) + 1, flags, our_port=60_999 + attempt), version, SECRET, 61_000)
    assert found.addresses.tolist() == column_of([int(ipaddress.ip_address(HOSTS[version]))], version).tolist()
    assert (found.ports.tolist(), found.attempts.tolist(), found.opened.tolist()) == ([80], [attempt], [opened])


@pytest.mark.parametrize("version", [4, 6])
def test_what_is_forged_or_says_nothing_does_not_count(version: int) -> None:
    good = cookie(version) + 1
    rows = np.concatenate(
        [
            answer(version, good ^ 1),
            answer(version, good, port=81),
            answer(version, good, our_port=61_001),
            answer(version, good, host=OTHERS[version]),
            answer(version, good, flags="A"),
            answer(version, good, flags="S"),
            answer(version, good),
        ]
    )
    assert answers_of(rows, version, SECRET, 61_000).ports.tolist() == [80]


@given(st.binary(max_size=400), st.sampled_from([4, 6]))
def test_no_packet_however_malformed_breaks_the_reader(data: bytes, version: int) -> None:
    width = 60 if version == 6 else 40
    rows = np.frombuffer(data[: len(data) // width * width], dtype=np.uint8).reshape(-1, width)
    assert len(answers_of(rows, version, SECRET, 61_000).ports) == 0
    for packet in (data, bytes([version << 4 | 5]) + data):
        read_unreachable(packet, version, US[version])


@pytest.mark.parametrize(
    ("code", "sender", "state"),
    [(3, HOSTS[4], PortState.CLOSED), (1, OTHERS[4], PortState.UNREACHABLE), (13, OTHERS[4], PortState.UNREACHABLE), (1, US[4], None)],
)
def test_icmp_unreachables_quote_our_probe(code: int, sender: str, state: PortState | None) -> None:
    from scapy.layers.inet import ICMP, IP, TCP

    quoted = bytes(IP(src=US[4], dst=HOSTS[4]) / TCP(sport=61_000, dport=80, seq=cookie(4)))[:28]
    told = read_unreachable(bytes(IP(src=sender, dst=US[4]) / ICMP(type=3, code=code) / quoted), 4, US[4])
    assert told == (((HOSTS[4], 80), 61_000, cookie(4), state) if state else None)


def test_icmp6_port_unreachable_is_closed() -> None:
    from scapy.layers.inet import TCP
    from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6

    quoted = IPv6(src=US[6], dst=HOSTS[6]) / TCP(sport=61_000, dport=80, seq=cookie(6))
    told = read_unreachable(bytes(IPv6(src=HOSTS[6], dst=US[6]) / ICMPv6DestUnreach(code=4) / quoted), 6, US[6])
    assert told == ((HOSTS[6], 80), 61_000, cookie(6), PortState.CLOSED)
