"""The UDP sweep and the echo against real sockets in namespaces: services, closed and silent ports, liars, and a host that is not there."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.sweep.echo import discover_echo
from processors.scan.unit import UnitReport
from schemas.events.observations import HostPorts
from schemas.portset import expand
from schemas.scope import Ask
from tests.namespaces import capturing, inside, ip, join, namespaces
from tests.scanning import NotingGate, make_unit, scan

pytestmark = [pytest.mark.namespace, pytest.mark.timeout(120)]
TARGET, AGENT = "dlu-target", "dlu-agent"
SERVER, BARE, NOBODY, CUT_OFF = "198.18.246.2", "198.18.246.3", "198.18.246.9", "198.18.247.9"
SERVER6 = "2001:db8:f6::2"
FAST = ScannerSettings(attempts=2, connect_timeout=0.6)
Reply = Callable[[bytes, socket.socket, tuple[str, int]], None]


def back(made: Callable[[bytes], bytes]) -> Reply:
    def reply(data: bytes, sock: socket.socket, sender: tuple[str, int]) -> None:
        sock.sendto(made(data), sender)

    return reply


def from_elsewhere(made: Callable[[bytes], bytes]) -> Reply:
    def reply(data: bytes, sock: socket.socket, sender: tuple[str, int]) -> None:
        with socket.socket(sock.family, socket.SOCK_DGRAM) as other:
            other.bind((sock.getsockname()[0], 0))
            other.sendto(made(data), sender)

    return reply


def version_bind(data: bytes) -> bytes:
    text = b"9.18.1-test"
    record = b"\xc0\x0c\x00\x10\x00\x03" + bytes(4) + (len(text) + 1).to_bytes(2, "big") + bytes([len(text)]) + text
    return data[:2] + b"\x84\x00\x00\x01\x00\x01\x00\x00\x00\x00" + data[12:] + record


def only_version_3(data: bytes, sock: socket.socket, sender: tuple[str, int]) -> None:
    """An SNMP agent that reports its engine, and is silent to older versions."""
    if data[4] == 3:
        sock.sendto(data.replace(b"\xa0\x0e", b"\xa8\x0e"), sender)


def limit_errors(milliseconds: int) -> None:
    """How long the target waits between two ICMP errors to the same host (icmp(7))."""
    inside(TARGET, lambda: Path("/proc/sys/net/ipv4/icmp_ratelimit").write_text(str(milliseconds)))


ANSWERS: dict[int, Reply] = {
    53: back(version_bind),
    69: from_elsewhere(lambda _: b"\0\5\0\1File not found\0"),
    123: back(lambda _: b"\x24" + bytes(47)),  # a time server's answer to somebody else
    137: from_elsewhere(lambda data: data[:2] + b"\x84\0" + data[4:]),
    161: only_version_3,
    514: lambda *_: None,
    5000: back(lambda _: b"welcome"),
}


@contextmanager
def serving(address: str, version: int) -> Iterator[None]:
    """Bind a socket for each answer in the target, and serve all from one thread."""
    family = socket.AF_INET6 if version == 6 else socket.AF_INET
    with ExitStack() as stack:
        sockets = {port: stack.enter_context(socket.socket(family, socket.SOCK_DGRAM)) for port in ANSWERS}
        for port, sock in sockets.items():
            sock.bind((address, port))
            sock.settimeout(0.2)
        ended = threading.Event()

        def serve(port: int, sock: socket.socket) -> None:
            while not ended.is_set():
                try:
                    data, sender = sock.recvfrom(2048)
                except TimeoutError:
                    continue
                ANSWERS[port](data, sock, sender[:2])

        threads = [threading.Thread(target=inside, args=(TARGET, lambda one=one: serve(*one))) for one in sockets.items()]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            ended.set()
            for thread in threads:
                thread.join()


@pytest.fixture(scope="module")
def network() -> Iterator[None]:
    """An agent, and behind a link two hosts, one of them with services; a network behind them to which there is no way."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for namespaces")
    with namespaces((TARGET, AGENT)), ExitStack() as stack:
        join((AGENT, "up0"), (TARGET, "down0"))
        ip("-n", AGENT, "address", "add", "198.18.246.1/24", "dev", "up0")
        ip("-n", AGENT, "address", "add", "2001:db8:f6::1/64", "dev", "up0", "nodad")
        ip("-n", AGENT, "route", "add", "198.18.247.0/24", "via", SERVER)
        for address in (f"{SERVER}/24", f"{BARE}/24"):
            ip("-n", TARGET, "address", "add", address, "dev", "down0")
        ip("-n", TARGET, "address", "add", f"{SERVER6}/64", "dev", "down0", "nodad")
        ip("-n", TARGET, "route", "add", "unreachable", "198.18.247.0/24")
        inside(TARGET, lambda: Path("/proc/sys/net/ipv4/ip_forward").write_text("1"))
        limit_errors(0)
        for address, version in ((SERVER, 4), (SERVER6, 6)):
            inside(TARGET, lambda address=address, version=version: stack.enter_context(serving(address, version)))  # type: ignore[misc]
        yield


def look(addresses: list[str], ports: str, gate: NotingGate | None = None, settings: ScannerSettings = FAST) -> UnitReport:
    unit = make_unit(addresses, "1", udp=ports).model_copy(update={"tcp_ports": ()})
    return inside(AGENT, lambda: scan(unit, gate, settings, "syn"))


def host_of(report: UnitReport, address: str) -> HostPorts:
    (sweep,) = report.sweeps
    return next((one for one in sweep.hosts if one.address == address), HostPorts(address=address))


@pytest.mark.usefixtures("network")
def test_services_answer_closed_ports_say_so_and_the_rest_is_silent() -> None:
    report = look([SERVER], "53,69,123,137,161,514,5000,5001")
    (sweep,), host = report.sweeps, host_of(report, SERVER)
    assert (sweep.transport, sweep.engine, sweep.complete, sweep.probed) == ("udp", "udp", True, (SERVER,))
    assert host.answered == (53, 69, 161, 5000)
    assert expand(host.closed) == (5001,)
    assert not host.unreachable  # 123 answered somebody else, 137 from a port of its own, 514 never does: all are silent
    (seen,) = report.hosts
    assert [(one.port, one.transport, one.service, one.banner) for one in seen.services] == [
        (53, "udp", "dns", "9.18.1-test"),
        (69, "udp", "tftp", "File not found"),
        (161, "udp", "snmp", ""),
        (5000, "udp", "", ""),
    ]


@pytest.mark.usefixtures("network")
def test_over_ipv6_too() -> None:
    report = look([SERVER6], "53,161,5001")
    host = host_of(report, SERVER6)
    assert (host.answered, expand(host.closed)) == ((53, 161), (5001,))


@pytest.mark.usefixtures("network")
def test_a_host_that_says_rarely_what_is_closed_has_silent_ports_and_no_open_ones() -> None:
    limit_errors(1000)
    try:
        report = look([BARE], "6000-6099")
    finally:
        limit_errors(0)
    host = host_of(report, BARE)
    closed = expand(host.closed)
    assert host.answered == ()
    assert len(closed) < 100, "Linux limits how often it says so (icmp_ratelimit)"
    (sweep,) = report.sweeps
    assert sweep.recall_samples == 0  # what it did not say is its choice, not loss
    assert report.hosts == ()


@pytest.mark.usefixtures("network")
def test_no_way_is_unreachable_and_nobody_is_silent() -> None:
    report = look([CUT_OFF, NOBODY], "53,123,161")
    assert expand(host_of(report, CUT_OFF).unreachable) == (53, 123, 161)
    assert host_of(report, NOBODY) == HostPorts(address=NOBODY)


@pytest.mark.usefixtures("network")
def test_only_what_the_grant_covers_leaves_by_capture_and_what_leaves_is_what_is_paid_for(tmp_path: Path) -> None:
    gate = NotingGate(refuse=lambda address, ask: ask.port == 161 or (address, ask.port) == (BARE, 53) or ask.kind != "udp")
    with capturing(tmp_path, "udp and src 198.18.246.1", AGENT) as seen:
        report = look([SERVER, BARE], "53,161,7000", gate)
    sent = {line.split(" > ")[1].split(":")[0] for line in seen}
    assert sent == {f"{SERVER}.53", f"{SERVER}.7000", f"{BARE}.7000"}
    assert gate.packets == report.packets == len(seen) == report.sweeps[0].packets_sent
    assert expand(host_of(report, BARE).not_probed) == (53, 161)


@pytest.mark.usefixtures("network")
def test_a_halt_in_the_middle_leaves_the_rest_not_probed() -> None:
    gate = NotingGate(halt_after=40)
    report = look([SERVER], "6000-6999", gate)
    (sweep,) = report.sweeps
    assert (sweep.complete, sweep.stopped_reason) == (False, "revoked in a test")
    assert len(gate.admitted) <= 40
    assert len(expand(host_of(report, SERVER).not_probed)) > 900


def echoes(addresses: list[str], refuse: Callable[[str, Ask], bool] = lambda address, ask: False) -> tuple[set[str], NotingGate]:
    gate = NotingGate(refuse)
    unit = make_unit([SERVER], "1")
    return inside(AGENT, lambda: asyncio.run(discover_echo(addresses, Meter(gate, unit), FAST))), gate


@pytest.mark.usefixtures("network")
def test_who_is_there_answers_an_echo(tmp_path: Path) -> None:
    with capturing(tmp_path, "icmp[0] = 8 or (icmp6 and ip6[40] = 128)", AGENT) as seen:
        found, gate = echoes([SERVER, BARE, NOBODY, SERVER6, "2001:db8:f6::9"])
    assert found == {SERVER, BARE, SERVER6}
    assert len(seen) == 3  # the kernel finds no neighbour for the others
    assert gate.packets == 3 + 2 * FAST.attempts
    assert {ask.kind for _, ask, _ in gate.admitted} == {"icmp"}


@pytest.mark.usefixtures("network")
def test_no_echo_leaves_without_a_grant_for_icmp(tmp_path: Path) -> None:
    with capturing(tmp_path, "icmp[0] = 8", AGENT) as seen:
        found, gate = echoes([SERVER, BARE], refuse=lambda address, _: address == SERVER)
    assert found == {BARE}
    assert [line for line in seen if SERVER in line] == []
    assert gate.packets == len(seen) == 1


@pytest.mark.usefixtures("network")
def test_a_unit_that_names_ping_tells_of_signs_of_life_and_of_no_service() -> None:
    report = inside(AGENT, lambda: scan(make_unit([BARE, NOBODY], "9", ["ping"]), None, FAST, "syn"))
    (sweep,) = report.sweeps
    assert {host.address: host.echo for host in sweep.hosts} == {BARE: True}
    assert report.hosts == ()
    assert not inside(AGENT, lambda: scan(make_unit([BARE], "9"), None, FAST, "syn")).sweeps[0].hosts[0].echo
