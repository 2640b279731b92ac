"""What a UDP sweep asks is what the protocols say, and only an answer to it is one."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest
from scapy.layers.dns import DNS
from scapy.layers.isakmp import ISAKMP
from scapy.layers.kerberos import KRB_AS_REQ, Kerberos
from scapy.layers.l2tp import L2TP
from scapy.layers.ldap import CLDAP, LDAP_SearchRequest
from scapy.layers.netbios import NBNSHeader
from scapy.layers.ntp import NTPHeader
from scapy.layers.radius import Radius
from scapy.layers.snmp import SNMP, SNMPget
from scapy.layers.tftp import TFTP, TFTP_RRQ
from scapy.packet import Packet, Raw

from processors.scan.sweep.payloads import EMPTY, Payload, load_payloads, payloads_of

COOKIE, OTHER = bytes(range(1, 9)), bytes(range(9, 17))
ALL = sorted({(port, number): one for port, some in load_payloads().items() for number, one in enumerate(some)}.items())


def asked(port: int, number: int = 0) -> bytes:
    return payloads_of(port)[number].written(COOKIE)


@pytest.mark.parametrize(("place", "payload"), ALL, ids=[f"{port}-{one.name}-{number}" for (port, number), one in ALL])
def test_every_question_names_its_source_and_is_answered_by_no_echo_of_itself(place: tuple[int, int], payload: Payload) -> None:
    written = payload.written(COOKIE)
    assert payload.source
    assert written
    assert len(written) <= 1200
    if payload.name != "isakmp":  # there only who answers can tell
        assert not payload.reads(written, COOKIE), place
    assert not payload.reads(b"", COOKIE)


@pytest.mark.parametrize(
    ("port", "number", "layer"),
    [
        (53, 0, DNS), (5353, 0, DNS), (123, 0, NTPHeader), (161, 0, SNMP), (161, 2, SNMP), (137, 0, NBNSHeader), (500, 0, ISAKMP),
        (69, 0, TFTP), (389, 0, CLDAP), (1812, 0, Radius), (88, 0, Kerberos), (1701, 0, L2TP),
    ],
)  # fmt: skip
def test_another_s_reading_of_a_question_is_ours(port: int, number: int, layer: type[Packet]) -> None:
    read = layer(asked(port, number))
    assert not read.haslayer(Raw) or layer in (L2TP, ISAKMP, NBNSHeader)
    fits: dict[type[Packet], Callable[[], bool]] = {
        DNS: lambda: read.qr == 0 and read.qd[0].qtype in (12, 16),
        NTPHeader: lambda: (read.version, read.mode) == (4, 3),
        SNMP: lambda: read.community.val == b"public" and SNMPget in read,
        NBNSHeader: lambda: read.NAME_TRN_ID > 0 and read.QDCOUNT == 1,
        ISAKMP: lambda: (read.exch_type, read.length) == (2, len(asked(port))),
        TFTP: lambda: read[TFTP_RRQ].mode == b"octet",
        CLDAP: lambda: isinstance(read.protocolOp, LDAP_SearchRequest),
        Radius: lambda: (read.code, read.len) == (1, 20),
        Kerberos: lambda: isinstance(read.root, KRB_AS_REQ) and read.root.reqBody.realm.val == b"DRIFTLINE",
        L2TP: lambda: read.len == len(asked(port)),
    }
    assert fits[layer]()


def test_lengths_that_scapy_does_not_check() -> None:
    assert asked(161, 1)[1] == len(asked(161, 1)) - 2
    assert int.from_bytes(asked(47808)[2:4], "big") == len(asked(47808))
    assert int.from_bytes(asked(4433)[11:13], "big") == len(asked(4433)) - 13
    assert int.from_bytes(asked(4433)[14:17], "big") == len(asked(4433)) - 25
    assert len(asked(443)) == 1200
    assert asked(4500)[4:] == asked(500)


def response(port: int) -> bytes:
    identifier = asked(port)
    return {
        53: identifier[:2] + b"\x84\x00" + identifier[4:],
        123: b"\x24" + bytes(23) + identifier[40:48] + bytes(16),
        11211: identifier[:8] + b"VERSION 1.6.21\r\n",
        5683: b"\x70\x00" + identifier[2:4],
        3478: b"\x01\x01" + identifier[2:20],
    }[port]


@pytest.mark.parametrize("port", [53, 123, 11211, 5683, 3478])
def test_an_answer_with_another_number_is_none(port: int) -> None:
    (payload,) = payloads_of(port)
    assert payload.reads(response(port), COOKIE)
    assert not payload.reads(response(port), OTHER)
    assert not payload.reads(b"\0" + response(port), COOKIE)


def test_what_answers_say() -> None:
    assert payloads_of(11211)[0].evidence(response(11211)).banner == "1.6.21"
    described = bytes.fromhex("3035020101040670") + b"ublic" + bytes.fromhex("a228020440020304020100020100301a301806082b06010201010100040c")
    assert payloads_of(161)[0].evidence(described + b"Router \x1b[31m 9").banner == "Router [31m 9"
    http = b"HTTP/1.1 200 OK\r\nServer: Linux/5 UPnP/1.1\r\n\r\n"
    assert (payloads_of(1900)[0].evidence(http).service, payloads_of(1900)[0].evidence(http).banner) == ("ssdp", "Linux/5 UPnP/1.1")


def test_a_port_without_a_question_gets_an_empty_datagram_and_any_answer_counts() -> None:
    assert payloads_of(40_000) == (EMPTY,)
    assert EMPTY.written(COOKIE) == b""
    assert EMPTY.reads(b"hello", COOKIE)
    assert EMPTY.evidence(b"hello").service == ""


@pytest.mark.parametrize(
    "hostile", [b"\x00" * 2048, b"\r\nserver:" * 220, b"\r\nserver:" + b" \t" * 1000, b"0\x82\xff\xff" * 500, b"+" * 2000]
)
def test_no_answer_takes_long_to_read(hostile: bytes) -> None:
    begun = time.perf_counter()
    for _, payload in ALL:
        for data in (hostile, payload.written(COOKIE)[:60] + hostile):
            payload.reads(data, COOKIE)
            payload.evidence(data)
    assert time.perf_counter() - begun < 0.01 * len(ALL)
