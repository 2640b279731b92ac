"""Port states, and the packets from which the SYN sweep reads them."""

from __future__ import annotations

import errno
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.scan.sweep.connect import LocalTrouble, socket_bound, state_of
from processors.scan.sweep.ledger import Ledger, PortState
from processors.scan.sweep.syn import Heard, read_tcp, read_unreachable, syn
from schemas.events.base import PortRange

US, HOST, ROUTER = "198.18.210.1", "198.18.210.130", "198.18.210.10"


def test_only_silence_gives_way() -> None:
    ledger = Ledger([HOST], [22, 80], attempts=2)
    ledger.note((HOST, 22), PortState.SILENT)
    ledger.note((HOST, 22), PortState.ANSWERED, attempt=2)
    ledger.note((HOST, 22), PortState.CLOSED, attempt=1)
    (host,) = ledger.hosts()
    assert host.answered == (22,)
    assert host.not_probed == (PortRange(first=80, last=80),)
    assert ledger.answers_by_attempt == [0, 1]


def test_a_host_silent_on_every_port_is_probed_but_not_listed() -> None:
    ledger = Ledger([HOST], range(20, 30), attempts=1)
    ledger.silence(list(ledger.open_keys()))
    assert ledger.probed() == (HOST,)
    assert ledger.hosts() == ()


def test_a_host_of_which_nothing_was_probed_is_listed_but_not_probed() -> None:
    ledger = Ledger([HOST], range(20, 30), attempts=1)
    ledger.refuse((HOST, 20), "out of scope")
    assert ledger.probed() == ()
    assert ledger.hosts()[0].not_probed == (PortRange(first=20, last=29),)
    assert (HOST, 20) not in list(ledger.open_keys())


def test_routers_say_unreachable_once_for_the_whole_host() -> None:
    ledger = Ledger([HOST, ROUTER], [1, 2, 3], attempts=1)
    for address in (HOST, ROUTER):
        ledger.note((address, 1), PortState.UNREACHABLE)
    ledger.note((ROUTER, 2), PortState.CLOSED)
    ledger.silence(list(ledger.open_keys()))
    assert ledger.states[HOST, 3] is PortState.UNREACHABLE
    assert ledger.states[ROUTER, 3] is PortState.SILENT


def test_hosts_take_turns() -> None:
    assert [key[0] for key in Ledger([HOST, ROUTER], [1, 2], attempts=1).open_keys()] == [HOST, ROUTER, HOST, ROUTER]


@pytest.mark.parametrize(
    ("number", "state"),
    [
        (errno.ECONNREFUSED, PortState.CLOSED),
        (errno.ENETUNREACH, PortState.UNREACHABLE),
        (errno.EHOSTUNREACH, PortState.UNREACHABLE),
        (errno.ETIMEDOUT, PortState.SILENT),
    ],
)
def test_states_of_failed_connects(number: int, state: PortState) -> None:
    assert state_of(OSError(number, "x"), "198.51.100.7") is state


def test_silence_of_a_neighbour_is_silence_and_local_trouble_says_nothing_of_the_port() -> None:
    assert state_of(OSError(errno.EHOSTUNREACH, "x"), "127.0.0.9") is PortState.SILENT
    for number in (errno.EMFILE, errno.EPERM, errno.EADDRNOTAVAIL, errno.EACCES):
        with pytest.raises(LocalTrouble):
            state_of(OSError(number, "x"), HOST)


def test_all_units_together_stay_within_the_open_files() -> None:
    assert socket_bound(1024, 16) * 16 <= 1024 - 256
    assert socket_bound(1 << 20, 16) == 256
    assert socket_bound(256, 16) == 8


def answer(flags: str, acknowledged: int, port: int = 80, our_port: int = 61_000) -> bytes:
    from scapy.layers.inet import IP, TCP

    return bytes(IP(src=HOST, dst=US) / TCP(sport=port, dport=our_port, flags=flags, ack=acknowledged))


def heard() -> Heard:
    return Heard(Ledger([HOST], [80], attempts=2), 61_000, sources={HOST: US})


@pytest.mark.parametrize(("flags", "state"), [("SA", PortState.ANSWERED), ("RA", PortState.CLOSED)])
@pytest.mark.parametrize("attempt", [1, 2])
def test_an_answer_with_the_cookie_counts(flags: str, state: PortState, attempt: int) -> None:
    ears = heard()
    found = read_tcp(answer(flags, ears.cookie((HOST, 80), attempt) + 1 & 0xFFFFFFFF, our_port=60_999 + attempt), 4)
    assert found is not None
    ears.note(*found)
    assert ears.ledger.states == {(HOST, 80): state}
    assert ears.ledger.answers_by_attempt[attempt - 1] == 1


@pytest.mark.parametrize("forged", ["cookie", "port", "attempt", "host"])
def test_a_forged_answer_does_not_count(forged: str) -> None:
    ears = heard()
    cookie = ears.cookie((HOST, 80), 1) + 1 & 0xFFFFFFFF
    packet = {
        "cookie": answer("SA", cookie ^ 1),
        "port": answer("SA", cookie, port=81),
        "attempt": answer("SA", cookie, our_port=61_001),
        "host": answer("SA", cookie).replace(socket.inet_aton(HOST), socket.inet_aton(ROUTER)),
    }[forged]
    found = read_tcp(packet, 4)
    assert found is not None
    ears.note(*found)
    assert ears.ledger.states == {}


@pytest.mark.parametrize(
    ("code", "sender", "state"),
    [(3, HOST, PortState.CLOSED), (1, ROUTER, PortState.UNREACHABLE), (13, ROUTER, PortState.UNREACHABLE), (1, US, None)],
)
def test_icmp_unreachables_quote_our_probe(code: int, sender: str, state: PortState | None) -> None:
    from scapy.layers.inet import ICMP, IP

    ears = heard()
    quoted = syn(US, (HOST, 80), 61_000, ears.cookie((HOST, 80), 1))[:28]
    found = read_unreachable(bytes(IP(src=sender, dst=US) / ICMP(type=3, code=code) / quoted), 4, ears.sources)
    if found:
        ears.note(*found)
    assert ears.ledger.states == ({(HOST, 80): state} if state else {})


def test_icmp6_port_unreachable_is_closed() -> None:
    from scapy.layers.inet6 import ICMPv6DestUnreach, IPv6

    host, us = "2001:db8::10", "2001:db8::1"
    ears = Heard(Ledger([host], [80], attempts=1), 61_000, sources={host: us})
    quoted = syn(us, (host, 80), 61_000, ears.cookie((host, 80), 1))
    found = read_unreachable(bytes(IPv6(src=host, dst=us) / ICMPv6DestUnreach(code=4) / quoted), 6, ears.sources)
    assert found is not None
    ears.note(*found)
    assert ears.ledger.states == {(host, 80): PortState.CLOSED}


@given(st.binary(max_size=120), st.sampled_from([4, 6]))
def test_no_packet_however_malformed_breaks_the_reader(data: bytes, version: int) -> None:
    for packet in (data, bytes([version << 4 | 5]) + data):
        read_tcp(packet, version)
        read_unreachable(packet, version, {})
