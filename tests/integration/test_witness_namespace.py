"""What a scanner tells of its packets, against a capture on the target's side: to the packet, and after kill -9 to the last second."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.utils import PcapReader

from schemas.events.base import PortRange
from schemas.events.grants import Intensity
from schemas.events.targets import WorkUnit
from schemas.events.touches import Touches
from schemas.portset import expand
from tests.namespaces import inside as inside_of
from tests.namespaces import ip, namespaces
from tests.scan_bench import Bench, wait_for
from tests.scan_samples import SIGNER, make_grant, make_unit
from tests.scanning import is_open, make_certificate, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.namespace, pytest.mark.slow, pytest.mark.timeout(400)]
SPACE, HERE, THERE = "dltw", "dltw0", "dltw1"
OURS, NETWORK = "198.18.241.1", "198.18.241.0/24"
HOSTS = tuple(f"198.18.241.{number}" for number in range(2, 10))
ABSENT = ("198.18.241.200",)  # does not even answer ARP, so that what is sent there never leaves
MUTE = "import socket, sys, time; s = socket.create_server((sys.argv[1], 99)); k = []\nwhile True: k.append(s.accept())"
Seen = tuple[float, str, str, int]


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    """A namespace on a link of its own, with addresses of which one serves HTTP; gives the file of its capture."""
    if os.geteuid() != 0:
        pytest.skip("needs root, for the namespace")
    subprocess.run(["ip", "link", "del", HERE], check=False, capture_output=True)
    with namespaces([SPACE]), ExitStack() as stack:
        ip("link", "add", HERE, "type", "veth", "peer", "name", THERE, "netns", SPACE)
        stack.callback(subprocess.run, ["ip", "link", "del", HERE], check=False, capture_output=True)
        ip("addr", "add", f"{OURS}/24", "dev", HERE)
        ip("link", "set", HERE, "up")
        ip("-n", SPACE, "link", "set", THERE, "up")
        for address in HOSTS:
            ip("-n", SPACE, "addr", "add", f"{address}/24", "dev", THERE)
        inside = ["ip", "netns", "exec", SPACE]
        certificate, key, _ = make_certificate(tmp_path, "web")
        tls = [*inside, "openssl", "s_server", "-accept", f"{HOSTS[1]}:43", "-cert", str(certificate), "-key", str(key), "-www", "-quiet"]
        mute = [*inside, sys.executable, "-c", MUTE, HOSTS[2]]
        web = [*inside, sys.executable, "-m", "http.server", "80", "--bind", HOSTS[0], "--directory", str(tmp_path)]
        file, errors = tmp_path / "target.pcap", tmp_path / "target.err"
        expression = f"ip and src {OURS} and dst net {NETWORK}"
        dump = [*inside, "tcpdump", "-i", THERE, "-n", "-U", "--immediate-mode", "-B", "32768", "-w", str(file), expression]
        for command, log in ((web, tmp_path / "web.log"), (tls, tmp_path / "tls.log"), (mute, tmp_path / "mute.log"), (dump, errors)):
            with log.open("wb") as output:
                process = subprocess.Popen(command, stdout=output, stderr=output)
            stack.callback(process.wait, 20)
            stack.callback(process.terminate)
        wait_until(lambda: b"listening on" in errors.read_bytes())
        services = ((HOSTS[0], 80), (HOSTS[1], 43), (HOSTS[2], 99))
        wait_until(lambda: all(inside_of(SPACE, lambda one=one: is_open(*one)) for one in services))  # type: ignore[misc]
        yield file


@contextmanager
def scanner(bench: Bench, slot: int, engine: str) -> Iterator[subprocess.Popen[bytes]]:
    """The real role in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DRIFTLINE_")} | {
        "DRIFTLINE_DATA_DIR": str(bench.folder),
        "DRIFTLINE_SLOT": str(slot),
        "DRIFTLINE_KAFKA__BOOTSTRAP": bench.bootstrap,
        "DRIFTLINE_KAFKA__PREFIX": bench.prefix,
        "DRIFTLINE_KAFKA__PARTITIONS": "4",
        "DRIFTLINE_SCOPE__SIGNERS": json.dumps([SIGNER.model_dump()]),
        "DRIFTLINE_SCANNER__AGENT_ID": f"agent-{slot}",
        "DRIFTLINE_SCANNER__ENGINE": engine,
        "DRIFTLINE_SCANNER__PER_HOST_PER_SECOND": "1000",
        "DRIFTLINE_TELEMETRY__PORT_BASE": str(30_000 + os.getpid() % 2000 * 10),
    }
    with (bench.folder / f"scanner-{slot}.log").open("wb") as output:
        process = subprocess.Popen([sys.executable, "-m", "infra.app.cli", "run", "scanner"], env=environment, stdout=output, stderr=output)
    try:
        yield process
    finally:
        process.terminate()
        process.wait(30)


def ready(bench: Bench, kafka: str, folder: Path) -> WorkUnit:
    """A grant, and a unit of all hosts × 100 ports."""
    bench.say("grants", "lab", make_grant(icmp=True, path=True, intensity=Intensity(packets_per_second=1000, per_host_per_second=1000)))
    return make_unit(1, address=HOSTS[0], addresses=HOSTS + ABSENT, tcp_ports=(PortRange(first=1, last=100),))


def captured(file: Path) -> list[Seen]:
    """When each packet came, its destination, kind and port (0: none)."""
    found = []
    with PcapReader(str(file)) as packets:
        for packet in packets:
            kind, port = next(
                (
                    (name, int(packet[layer].dport) if name != "icmp" else 0)
                    for name, layer in (("tcp", TCP), ("udp", UDP), ("icmp", ICMP))
                    if layer in packet
                ),
                ("other", 0),
            )
            found.append((float(packet.time), str(packet[IP].dst), kind, port))
    return found


def told(bench: Bench) -> Counter[tuple[str, str, int]]:
    """Packets by destination, kind and port, as the records add up."""
    found: Counter[tuple[str, str, int]] = Counter()
    for record in bench.events("touches"):
        assert isinstance(record, Touches)
        assert record.exact
        assert (record.grant_id, record.issued_by, record.unit_id) == ("lab", "test", make_unit(1).unit_id)
        for one in record.touches:
            assert one.every_port
            ports = expand(one.ports) or (0,)
            for number in range(int(ip_address(one.first)), int(ip_address(one.last)) + 1):
                for port in ports:
                    found[str(ip_address(number)), one.kind.value, port] += one.packets // len(ports)
    return found


@pytest.mark.parametrize("engine", ["syn", "connect"])
def test_what_is_told_agrees_with_the_capture_to_the_packet(kafka: str, tmp_path: Path, target: Path, engine: str) -> None:
    with ExitStack() as stack:
        bench = Bench(kafka, tmp_path, stack)
        unit = ready(bench, kafka, tmp_path)
        with scanner(bench, 0, engine):
            bench.push(unit)
            wait_for(bench.sweeps, 110)
        wait_until(lambda: len(captured(target)) > 0)
        seen = Counter((to, kind, port) for _, to, kind, port in captured(target))
        assert told(bench) == seen
    assert seen.total() > len(HOSTS) * 100
    for to, port in ((HOSTS[0], 80), (HOSTS[1], 43), (HOSTS[2], 99)):  # HTTP, TLS, and what only nmap asks on
        assert seen[to, "tcp", port] > 12
    assert {kind for _, kind, _ in seen} == {"tcp", "icmp"}  # traceroute
    print(f"{engine}: {seen.total()} packets, {len(seen)} places, all told")


def test_kill_9_loses_the_last_second_at_most_and_a_second_attempt_is_told_apart(kafka: str, tmp_path: Path, target: Path) -> None:
    with ExitStack() as stack:
        bench = Bench(kafka, tmp_path, stack)
        unit = ready(bench, kafka, tmp_path).model_copy(
            update={"tcp_ports": (PortRange(first=1, last=400),), "packets_per_second": 400, "per_host_per_second": 400}
        )
        with scanner(bench, 0, "syn") as first:
            bench.push(unit)
            wait_until(lambda: len(captured(target)) > 1000, 60)
            killed_at = time.time()
            first.send_signal(signal.SIGKILL)
            first.wait()
        before = captured(target)
        known = told(bench)
        sent = Counter((to, kind, port) for _, to, kind, port in before)
        assert known <= sent
        missing = sent - known
        late = sum(at > killed_at - 1.5 for at, *_ in before)
        print(f"{sent.total()} packets sent, {missing.total()} of them not told, {late} in the last 1.5 s")
        assert missing.total() <= late
        assert known.total() > 300
        with scanner(bench, 1, "syn"):
            wait_for(bench.sweeps, 110)
        everything = Counter((to, kind, port) for _, to, kind, port in captured(target))
        assert told(bench) + missing == everything
        assert {one.agent_id for one in bench.events("touches") if isinstance(one, Touches)} == {"agent-0", "agent-1"}
