"""The tap against real interfaces: what it sees, on which, and what it costs."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from processors.scan.witness import tap as tapping
from processors.scan.witness.account import Account
from processors.scan.witness.summary import CODES
from processors.scan.witness.tap import Tap, interface_to
from schemas.events.touches import PacketKind
from tests.namespaces import inside, ip, join, namespaces

pytestmark = pytest.mark.namespace
ONE, OTHER = f"dlta{os.getpid()}", f"dltb{os.getpid()}"
PEER, PEER6, BRIDGED = "198.18.242.2", "2001:db8:18:f2::2", "198.18.243.2"
SUBNETS = ("198.18.242.0/24", "2001:db8:18:f2::/64", "198.18.243.0/24")


@pytest.fixture(scope="module")
def link() -> Iterator[None]:
    """Two namespaces, a link between them, and another below a bridge."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for the namespaces")
    with namespaces([ONE, OTHER]):
        join((ONE, "dlta0"), (OTHER, "dltb0"))
        for name, device, number in ((ONE, "dlta0", 1), (OTHER, "dltb0", 2)):
            ip("-n", name, "addr", "add", f"198.18.242.{number}/24", "dev", device)
            ip("-n", name, "addr", "add", f"2001:db8:18:f2::{number}/64", "dev", device, "nodad")
        join((ONE, "dlta1"), (OTHER, "dltb1"))
        ip("-n", ONE, "link", "add", "dltbr", "type", "bridge")
        ip("-n", ONE, "link", "set", "dltbr", "up")
        ip("-n", ONE, "link", "set", "dlta1", "master", "dltbr")
        ip("-n", ONE, "addr", "add", "198.18.243.1/24", "dev", "dltbr")
        ip("-n", OTHER, "addr", "add", f"{BRIDGED}/24", "dev", "dltb1")
        yield


def counted(account: Account, tap: Tap) -> dict[tuple[str, int], int]:
    """Packets by kind and port, once the ring's last block is handed over."""
    time.sleep(3 * tapping.RETIRE_MS / 1000)
    found: dict[tuple[str, int], int] = {}
    for packets in tap.read():
        if (packets.addresses.dtype.kind == "u") == (account.version == 4):
            account.add(packets)
    for one in account.told(account.take(), interface_to):
        for port in [span.first for span in one.ports] or [0]:
            found[one.kind.value, port] = found.get((one.kind.value, port), 0) + one.packets // max(1, len(one.ports))
    return found


def knock(address: str, *ports: int) -> None:
    """One SYN a port: nobody listens."""
    for port in ports:
        with suppress(OSError):
            socket.create_connection((address, port), 1).close()


@pytest.mark.parametrize("most_named", [64, 0], ids=["named subnets", "all that leaves"])
@pytest.mark.parametrize("address", [PEER, PEER6, BRIDGED], ids=["IPv4", "IPv6", "bridge"])
def test_each_packet_counts_once_by_kind_and_port(link: None, address: str, most_named: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tapping, "MOST_NAMED", most_named)

    def work() -> dict[tuple[str, int], int]:
        tap = Tap(SUBNETS)
        try:
            knock(address, 81, 82, 82)
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            with socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"x" * 3000, (address, 53))  # three fragments, of which the first alone has ports
            if family == socket.AF_INET:
                subprocess.run(["hping3", "-1", "-c", "1", address], check=True, capture_output=True)
            return counted(Account((address,)), tap)
        finally:
            tap.close()

    found = inside(ONE, work)
    assert (found["tcp", 81], found["tcp", 82]) == (1, 2)
    if address == PEER6:
        assert found == {("tcp", 81): 1, ("tcp", 82): 2, ("other", 0): 3}  # IPv6 says fragment before UDP
    else:
        assert found == {("tcp", 81): 1, ("tcp", 82): 2, ("udp", 53): 1, ("udp", 0): 2, ("icmp", 0): 1}


def test_what_comes_in_or_goes_elsewhere_is_not_seen(link: None) -> None:
    def work() -> int:
        tap = Tap(SUBNETS[:1])
        try:
            knock(BRIDGED, 81)
            inside(OTHER, lambda: knock("198.18.242.1", 81))  # our kernel answers with a reset, which does leave
            time.sleep(3 * tapping.RETIRE_MS / 1000)
            return sum(len(packets.addresses) for packets in tap.read())
        finally:
            tap.close()

    assert inside(ONE, work) == 1


def test_a_ring_that_overflows_says_how_many_it_missed(link: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tapping, "BLOCKS", 2)

    def work() -> tuple[int, int]:
        tap = Tap(SUBNETS)
        try:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for _ in range(20_000):
                    with suppress(OSError):
                        sock.sendto(b"x", (PEER, 53))
            time.sleep(3 * tapping.RETIRE_MS / 1000)
            return sum(int((packets.kinds == CODES[PacketKind.UDP]).sum()) for packets in tap.read()), tap.missed()
        finally:
            tap.close()

    seen, missed = inside(ONE, work)
    assert missed > 0
    assert 20_000 - 100 <= seen + missed <= 20_100


def test_a_route_names_an_interface(link: None) -> None:
    def work() -> tuple[int, int]:
        return interface_to(BRIDGED), socket.if_nametoindex("dltbr")

    named, bridge = inside(ONE, work)
    assert named == bridge
    with pytest.raises(OSError, match="unreachable"):
        inside(ONE, lambda: interface_to("203.0.113.1"))
