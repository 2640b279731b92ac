"""A host with the same face on every port: the look stops early, starts no program, and says why; honest hosts are looked into."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from infra.core.settings import ScannerSettings
from processors.scan.deception import ALIKE_PORTS, MANY_ALIKE
from tests.scanning import NotingGate, make_unit, scan

FALSE, HONEST = "127.79.0.1", "127.79.0.2"
FIRST, COUNT = 23_100, 60
SETTINGS = ScannerSettings(ports_at_once=2)
COST = 6  # packets of one banner grab


@pytest.fixture(scope="module")
def hosts() -> Iterator[None]:
    """One greeting on all ports of one host, and another on each port of the other."""
    with ExitStack() as stack:
        for address in (FALSE, HONEST):
            for port in range(FIRST, FIRST + COUNT):
                server = stack.enter_context(socket.create_server((address, port)))
                greeting = b"220 welcome\r\n" if address == FALSE else f"220 number {port}\r\n".encode()
                threading.Thread(target=greet, args=(server, greeting), daemon=True).start()
        yield


def greet(server: socket.socket, greeting: bytes) -> None:
    while True:
        try:
            connection, _ = server.accept()
            with connection:
                connection.sendall(greeting)
        except OSError:
            if server.fileno() < 0:
                return


def test_a_false_host_gets_few_packets_and_is_marked(hosts: None) -> None:
    gate = NotingGate()
    report = scan(make_unit([FALSE, HONEST], f"{FIRST}-{FIRST + COUNT - 1}", ["banner"]), gate, SETTINGS)
    (honest,) = report.hosts
    (told,) = report.sweeps[0].quarantined
    assert (told.address, told.reason) == (FALSE, MANY_ALIKE)
    assert FALSE not in {host.address for host in report.sweeps[0].hosts if host.answered}, "nothing is said of its ports"
    grabbed = sum(packets for address, _, packets in gate.admitted if address == FALSE and packets == COST)
    assert grabbed < COST * (ALIKE_PORTS + SETTINGS.ports_at_once)
    assert len(honest.services) == COUNT
    assert not any(one.facts for one in honest.services)


def test_no_program_is_run_on_a_false_host(hosts: None) -> None:
    report = scan(make_unit([FALSE], f"{FIRST}-{FIRST + COUNT - 1}", ["banner", "nmap"]), settings=SETTINGS)
    assert report.hosts == ()
    assert report.packets < 80 * COUNT
