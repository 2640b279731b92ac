"""The SYNs that the writer makes, read by scapy: every field, both checksums, and none that the grant does not cover."""

from __future__ import annotations

import ipaddress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from processors.scan.scope.mask import ScopeMask, column_of, compile_mask
from processors.scan.sweep.cookies import cookies
from processors.scan.sweep.frames import SynWriter, words_of
from tests.grant_examples import NOW, book, grant

SECRET = bytes(range(16))
SOURCES = {4: "198.18.7.7", 6: "2001:db8:18:7::7"}
BASES = {4: int(ipaddress.ip_address("198.18.0.0")), 6: int(ipaddress.ip_address("2001:db8:18::"))}
NETWORKS = {4: "198.18.0.0/16", 6: "2001:db8:18::/112"}
HOLES = {4: "198.18.128.0/17", 6: "2001:db8:18::8000/113"}


def scope(version: int) -> ScopeMask:
    return compile_mask(book(grant(networks=(NETWORKS[version],), exclusions=(HOLES[version],), ports="1-60000")), "default", "lab", NOW)


@pytest.mark.parametrize("version", [4, 6])
@given(
    targets=st.lists(st.tuples(st.integers(0, 0xFFFF), st.integers(0, 0xFFFF)), max_size=30),
    attempt=st.integers(1, 8),
)
def test_each_frame_is_a_syn_that_scapy_would_have_written(version: int, targets: list[tuple[int, int]], attempt: int) -> None:
    addresses = column_of([BASES[version] + number for number, _ in targets], version)
    ports = np.array([port for _, port in targets], dtype=np.uint16)
    written = SynWriter(SOURCES[version], 61_000, SECRET).write(addresses, ports, attempt, scope(version))
    wanted = [(number, port) for number, port in targets if number < 0x8000 and 1 <= port <= 60_000]
    assert written.allowed.tolist() == [(number, port) in wanted for number, port in targets]
    assert len(written.frames) == len(wanted)
    for row, (number, port) in zip(written.frames, wanted, strict=True):
        data = row.tobytes()
        packet = (IPv6 if version == 6 else IP)(data)
        assert int(ipaddress.ip_address(packet.dst)) == BASES[version] + number
        assert packet.src == SOURCES[version]
        assert (packet[TCP].dport, packet[TCP].sport, packet[TCP].flags) == (port, 61_000 + attempt - 1, "S")
        column = column_of([BASES[version] + number], version)
        assert packet[TCP].seq == cookies(SECRET, words_of(column), np.array([port], dtype=np.uint64), np.uint64(attempt))[0]
        assert bytes(again(packet)) == data


def again(packet: IP | IPv6) -> IP | IPv6:
    """The same packet with its checksums reckoned by scapy."""
    copy = packet.copy()
    del copy[TCP].chksum
    if isinstance(copy, IP):
        del copy.chksum
    return copy
