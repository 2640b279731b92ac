"""A namespace to be probed, captured on its own side, and the real scanner role as a process in another one.

Neither has a default route, and their names are this process's own: whatever becomes of the link, and whoever else tests on this
machine, no packet can go elsewhere. The scanner reaches the broker through a relay.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from scapy.layers.inet import ICMP, IP, TCP, UDP
from scapy.utils import PcapReader

from schemas.events.touches import Touches
from schemas.portset import expand
from tests.namespaces import inside, ip, join, namespaces
from tests.scan_bench import Bench
from tests.scan_samples import SIGNER
from tests.scanning import is_open, make_certificate, wait_until

SPACE, SCANS = f"dltt{os.getpid()}", f"dlts{os.getpid()}"
HERE, THERE = "dlts0", "dltt0"
OURS, NETWORK = "198.18.241.1", "198.18.241.0/24"
HOSTS = tuple(f"198.18.241.{number}" for number in range(2, 10))
WEB, TLS, MUTE = (HOSTS[0], 80), (HOSTS[1], 43), (HOSTS[2], 99)
MANY = HOSTS[3], range(30, 60)
LISTEN = """
import socket, sys
held = [socket.create_server((sys.argv[1], int(port)), backlog=500) for port in sys.argv[2:]]
input()
"""


@dataclass(frozen=True, slots=True)
class Seen:
    """A packet at the target's side of the link: when, from where, to where, its kind and destination port (0: none)."""

    at: float
    source: str
    to: str
    kind: str
    port: int


@dataclass(frozen=True, slots=True)
class TargetSpace:
    """The namespace's capture file."""

    file: Path

    def seen(self) -> list[Seen]:
        """Every IP packet of the link so far."""
        with PcapReader(str(self.file)) as packets:
            return [
                Seen(float(packet.time), str(packet[IP].src), str(packet[IP].dst), *_kind(packet)) for packet in packets if IP in packet
            ]

    def came(self) -> list[Seen]:
        """What the scanner's machine sent."""
        return [one for one in self.seen() if one.source == OURS]

    def run(self, *command: str) -> None:
        """Run a command there."""
        subprocess.run(["ip", "netns", "exec", SPACE, *command], check=True, capture_output=True)


def _kind(packet: IP) -> tuple[str, int]:
    for kind, layer in (("tcp", TCP), ("udp", UDP)):
        if layer in packet:
            return kind, int(packet[layer].dport)
    return ("icmp" if ICMP in packet else "other"), 0


@contextmanager
def target_space(folder: Path) -> Iterator[TargetSpace]:
    """Eight addresses: one serves HTTP, one TLS, one takes connections and stays mute, one does so on thirty ports."""
    forget_the_dead()
    with namespaces([SPACE, SCANS]), ExitStack() as stack:
        join((SCANS, HERE), (SPACE, THERE))
        ip("-n", SCANS, "addr", "add", f"{OURS}/24", "dev", HERE)
        for address in HOSTS:
            ip("-n", SPACE, "addr", "add", f"{address}/24", "dev", THERE)
        certificate, key, _ = make_certificate(folder, "web")
        file, errors = folder / "target.pcap", folder / "dump.log"
        commands = {
            "web": [sys.executable, "-m", "http.server", str(WEB[1]), "--bind", WEB[0], "--directory", str(folder)],
            "tls": ["openssl", "s_server", "-accept", f"{TLS[0]}:{TLS[1]}", "-cert", str(certificate), "-key", str(key), "-www", "-quiet"],
            "mute": [sys.executable, "-c", LISTEN, MUTE[0], str(MUTE[1])],
            "many": [sys.executable, "-c", LISTEN, MANY[0], *map(str, MANY[1])],
            "dump": ["tcpdump", "-i", THERE, "-n", "-U", "--immediate-mode", "-B", "32768", "-w", str(file), f"ip and net {NETWORK}"],
        }
        for name, command in commands.items():
            with (folder / f"{name}.log").open("wb") as output:
                process = subprocess.Popen(
                    ["ip", "netns", "exec", SPACE, *command], stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True
                )
            stack.callback(process.communicate, timeout=20)
            stack.callback(process.terminate)
        wait_until(lambda: b"listening on" in errors.read_bytes())
        for place in (WEB, TLS, MUTE, (MANY[0], MANY[1][-1])):
            wait_until(lambda place=place: inside(SPACE, lambda: is_open(*place)))  # type: ignore[misc]
        yield TargetSpace(file)


def forget_the_dead() -> None:
    """Remove the namespaces of test processes that are no more."""
    for name in (path.name for path in Path("/run/netns").glob("dlt[st][0-9]*")):
        if not Path("/proc", name[4:]).exists():
            subprocess.run(["ip", "netns", "del", name], check=False, capture_output=True)


@contextmanager
def broker_inside(bootstrap: str) -> Iterator[None]:
    """Let the scanner's namespace reach the broker at its usual address. A socket stays in the namespace where it was made."""
    place = bootstrap.partition(":")[0], int(bootstrap.partition(":")[2])
    server = inside(SCANS, lambda: socket.create_server(place))
    with ExitStack() as stack:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    near = stack.enter_context(server.accept()[0])
                    far = stack.enter_context(socket.create_connection(place))
                    for one, other in ((near, far), (far, near)):
                        threading.Thread(target=pour, args=(one, other), daemon=True).start()

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            server.close()


def pour(source: socket.socket, sink: socket.socket) -> None:
    """Hand on bytes until one side ends, then end the other."""
    with suppress(OSError):
        while data := source.recv(65_536):
            sink.sendall(data)
    for one in (source, sink):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)


@contextmanager
def scanner(bench: Bench, slot: int, engine: str, **settings: object) -> Iterator[subprocess.Popen[bytes]]:
    """The scanner role as `driftline run scanner` starts it; SIGTERM at the end."""
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
        **{f"DRIFTLINE_SCANNER__{name.upper()}": str(value) for name, value in settings.items()},
    }
    role = ["ip", "netns", "exec", SCANS, sys.executable, "-m", "infra.app.cli", "run", "scanner"]
    with broker_inside(bench.bootstrap):
        with (bench.folder / f"scanner-{slot}.log").open("wb") as output:
            process = subprocess.Popen(role, env=environment, stdout=output, stderr=output)
        try:
            yield process
        finally:
            process.terminate()
            process.wait(30)


def told(bench: Bench, agent: str) -> Counter[tuple[str, str, int]]:
    """Packets of an agent by destination, kind and port, as the records on `touches` add up."""
    found: Counter[tuple[str, str, int]] = Counter()
    for record in bench.events("touches"):
        assert isinstance(record, Touches)
        if record.agent_id != agent:
            continue
        assert record.exact
        for one in record.touches:
            assert one.every_port
            ports = expand(one.ports) or (0,)
            for number in range(int(ip_address(one.first)), int(ip_address(one.last)) + 1):
                for port in ports:
                    found[str(ip_address(number)), one.kind.value, port] += one.packets // len(ports)
    return found
