"""The filters and templates that are written out by hand are those that scapy and libpcap make."""

from __future__ import annotations

import pytest
from scapy.arch.common import compile_filter
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6

from processors.scan.sweep.filters import RETURN, Program, advertisements, answers, unreachables
from processors.scan.sweep.frames import template

FROM_THE_IP_HEADER = 12  # the link type DLT_RAW
MOST = 96


def compiled(expression: str) -> Program:
    made = compile_filter(expression, linktype=FROM_THE_IP_HEADER)
    instructions = (made.bf_insns[number] for number in range(made.bf_len))
    return [(one.code, one.jt, one.jf, MOST if one.code == RETURN and one.k else one.k) for one in instructions]


@pytest.mark.parametrize(
    ("program", "expression"),
    [
        (answers(4, 61_000, 61_015, MOST), "ip and tcp and dst portrange 61000-61015"),
        (answers(6, 61_000, 61_015, MOST), "ip6 and tcp and dst portrange 61000-61015"),
        (unreachables(4, MOST), "icmp[0] = 3"),
        # libpcap looks behind one fragment header as well; a fragment is no answer of ours
        (unreachables(6, MOST), "ip6 and ip6[6] = 58 and ip6[40] = 1"),
        (advertisements(MOST), "ip6 and ip6[6] = 58 and ip6[40] = 136"),
    ],
)
def test_filters_are_those_of_libpcap(program: Program, expression: str) -> None:
    assert program == compiled(expression)


@pytest.mark.parametrize("source", ["198.18.0.1", "2001:db8::1"])
def test_templates_are_those_of_scapy(source: str) -> None:
    tcp = TCP(sport=0, dport=0, flags="S", seq=0, window=1024, options=[("MSS", 1460)], chksum=0)
    packet = IPv6(src=source, dst="::", hlim=64) / tcp if ":" in source else IP(src=source, dst="0.0.0.0", flags="DF", id=0, chksum=0) / tcp
    assert template(source) == bytes(packet)
