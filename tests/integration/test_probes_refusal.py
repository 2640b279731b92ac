"""What the gate refuses gets no packet, and a halt ends everything. Proved by captures on loopback, not by reading code."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from infra.core.settings import ScannerSettings
from schemas.portset import parse_ports
from schemas.scope import Ask
from tests.namespaces import capturing
from tests.scanning import NotingGate, make_unit, scan

HOST = "127.0.0.77"
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="capturing needs root")


@contextmanager
def listening(port: int, answer: bytes = b"", address: str = HOST) -> Iterator[None]:
    """A port that takes connections, says `answer` on and on until it is cut off, and reads nothing."""
    server = socket.create_server((address, port), backlog=64)
    ended = threading.Event()

    def serve() -> None:
        while not ended.is_set():
            try:
                connection, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        with connection:
            try:
                while answer and not ended.is_set():
                    connection.sendall(answer)
                ended.wait()
            except OSError:
                return

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join()


@needs_root
@pytest.mark.parametrize("probes", [(), ("nmap",), ("hping3",)])
def test_a_refused_port_gets_no_packet_from_the_sweep(tmp_path: Path, probes: tuple[str, ...]) -> None:
    gate = NotingGate(refuse=lambda address, ask: ask.port == 21502)
    ports = listening(21501, b"hello\r\n"), listening(21502, b"hello\r\n")
    with ports[0], ports[1], capturing(tmp_path, f"dst host {HOST} and tcp", interface="lo") as seen:
        report = scan(make_unit([HOST], "21501-21502", probes), gate)
    assert any(f"{HOST}.21501: Flags [S]" in line for line in seen)
    assert not [line for line in seen if f"{HOST}.21502:" in line]
    (host,) = report.sweeps[0].hosts
    assert host.answered == (21501,)
    assert [(span.first, span.last) for span in host.not_probed] == [(21502, 21502)]
    assert report.sweeps[0].complete


@needs_root
def test_a_port_refused_after_the_sweep_gets_no_packet_from_any_probe(tmp_path: Path) -> None:
    looks: list[Ask] = []

    def refuse(address: str, ask: Ask) -> bool:
        looks.append(ask)
        return len(looks) > 2  # the sweep checks two ports

    with (
        listening(21503),
        listening(21504),
        capturing(tmp_path, f"dst host {HOST} and tcp[tcpflags] & tcp-syn != 0", interface="lo") as seen,
    ):
        report = scan(make_unit([HOST], "21503-21504"), NotingGate(refuse=refuse))
    assert len(seen) == 2
    assert [service.evidence for service in report.hosts[0].services] == [(), ()]


def test_a_halt_gives_a_partial_report_that_claims_nothing_of_the_rest() -> None:
    report = scan(make_unit([HOST], "21510-21909"), NotingGate(halt_after=200), ScannerSettings(parallel_units=256))
    (sweep,) = report.sweeps
    (host,) = sweep.hosts
    closed = sum(span.last - span.first + 1 for span in host.closed)
    skipped = sum(span.last - span.first + 1 for span in host.not_probed)
    assert (sweep.complete, sweep.stopped_reason) == (False, "revoked in a test")
    assert 100 <= closed <= 200
    assert closed + skipped == 400
    assert report.hosts == ()


def test_a_halt_ends_nmap_within_two_seconds() -> None:
    gate = NotingGate()
    halted_at: list[float] = []

    def halt_once_nmap_runs() -> None:
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline and not own_nmaps():
            time.sleep(0.01)
        halted_at.append(time.monotonic())
        gate.halted = True

    with listening(21505):
        thread = threading.Thread(target=halt_once_nmap_runs)
        thread.start()
        report = scan(make_unit([HOST], "21505", ["nmap"]), gate)
        ended_at = time.monotonic()
        thread.join()
    assert ended_at - halted_at[0] < 2.0
    assert not own_nmaps()
    assert report.sweeps[0].stopped_reason == "revoked in a test"
    assert report.hosts == ()


def own_nmaps() -> list[int]:
    found = []
    for process in psutil.Process().children(recursive=True):
        try:
            if "21505" in process.cmdline() and process.name() == "nmap":
                found.append(process.pid)
        except psutil.NoSuchProcess:
            continue
    return found


def test_a_server_that_never_stops_talking_is_cut_off() -> None:
    junk = bytes(range(256)) * 256
    with listening(21506, junk), listening(21507, b"HTTP/1.1 200 OK\r\n\r\n<title>" + b"x" * 100_000):
        started = time.monotonic()
        report = scan(make_unit([HOST], "21506-21507", ["banner", "tls", "http", "redis", "memcached", "mqtt", "ftp-anonymous"]))
    assert time.monotonic() - started < 30
    noise, web = report.hosts[0].services
    assert len(noise.banner) <= 512
    assert noise.banner.isprintable()
    assert web.http is not None
    assert len(web.http.title) <= 512


def test_a_unit_over_its_time_is_published_in_part() -> None:
    with listening(21508):
        report = scan(make_unit([HOST], "21508", ["nmap"]), limit=1.0)
    (sweep,) = report.sweeps
    assert not sweep.complete
    assert "longer than 1 s" in sweep.stopped_reason
    assert sweep.hosts[0].answered == (21508,)
    assert report.hosts == ()


def test_what_is_no_address_is_never_probed_and_said_so() -> None:
    gate = NotingGate()
    report = scan(make_unit([HOST, "no-address", "127.0.0.077"], "21599", udp="21599"), gate)
    tcp, udp = report.sweeps
    assert tcp.probed == (HOST,)
    assert (udp.transport, udp.probed, udp.complete) == ("udp", (HOST,), True)
    for sweep in (tcp, udp):
        assert {host.address for host in sweep.hosts if host.not_probed} == {"no-address", "127.0.0.077"}
        assert [host.closed for host in sweep.hosts if host.address == HOST] == [parse_ports("21599")]
    assert {address for address, _, _ in gate.admitted} == {HOST}


def test_intrusive_and_unknown_probes_are_left_out_and_one_attempt_is_enough() -> None:
    with listening(21509, b"220 ready\r\n"):
        report = scan(make_unit([HOST], "21509", ["no-such-probe"]), settings=ScannerSettings(attempts=1))
    assert report.hosts[0].services[0].evidence == ()
    assert report.sweeps[0].recall == pytest.approx(0.9)


def test_the_kernel_connecting_a_socket_to_itself_is_no_answer() -> None:
    low, high = (int(one) for one in Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split())
    ports = f"{low}-{min(high, low + 2999)}"
    report = scan(make_unit(["127.0.0.1"], ports, ["banner"]))
    found = [port for host in report.sweeps[0].hosts for port in host.answered]
    assert all(is_listening(port) for port in found)


def is_listening(port: int) -> bool:
    return any(one.laddr and one.laddr.port == port and one.status == "LISTEN" for one in psutil.net_connections("tcp"))
