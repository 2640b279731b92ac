"""What tests of the scanner's unit need: a gate that notes all and may refuse, units, and real services on this machine."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Literal

import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from infra.core.settings import ScannerSettings
from processors.scan.scope.gate import Halted, OutOfScope
from processors.scan.scope.mask import Addresses, Flags, Ports, ScopeMask
from processors.scan.unit import Surroundings, UnitReport, run_unit
from schemas.events.targets import Cause, PinnedName, WorkUnit
from schemas.portset import parse_ports
from schemas.scope import Ask
from tests.processes import end

DEADLINE_SECONDS = 20.0
NOON = datetime(2026, 5, 1, 12, tzinfo=UTC)


ALL = np.ones(65_536, dtype=bool)


@dataclass(frozen=True)
class NotingMask(ScopeMask):
    """The mask of a `NotingGate`, which is asked about each packet."""

    gate: NotingGate

    def covers(self, addresses: Addresses) -> Flags:
        return np.ones(len(addresses), dtype=bool)

    def allows(self, addresses: Addresses, ports: Ports, kind: Literal["tcp", "udp", "icmp"] = "tcp") -> Flags:
        texts = (str(ip_address(int(one) if addresses.dtype.kind == "u" else one.ljust(16, b"\0"))) for one in addresses)
        return np.array([self.gate.covers(text, Ask(kind, int(port))) for text, port in zip(texts, ports, strict=True)], dtype=bool)


class NotingGate:
    """A gate without a budget that notes each admission, refuses what `refuse` names, and halts all from `halt_after` admissions on."""

    def __init__(self, refuse: Callable[[str, Ask], bool] = lambda address, ask: False, halt_after: int | None = None) -> None:
        self._refuse, self._halt_after = refuse, halt_after
        self.admitted: list[tuple[str, Ask, int]] = []
        self.batches: list[int] = []
        self.held: list[str] = []
        self.halted = False

    def check(self, unit: WorkUnit, address: str, ask: Ask) -> None:
        if self.halted or (self._halt_after is not None and len(self.admitted) >= self._halt_after):
            raise Halted("revoked in a test")
        if self._refuse(address, ask):
            raise OutOfScope(f"{ask.kind}/{ask.port} is refused in a test")

    def allows_intrusive(self) -> bool:
        return False

    async def admit(self, unit: WorkUnit, address: str, ask: Ask, packets: int = 1) -> None:
        await asyncio.sleep(0)
        self.check(unit, address, ask)
        self.admitted.append((address, ask, packets))
        self.batches.append(packets)

    async def admit_some(self, unit: WorkUnit, most: int) -> int:
        await asyncio.sleep(0)
        self.check_unit()
        self.batches.append(most if self._halt_after is None else min(most, self._halt_after - len(self.admitted)))
        return self.batches[-1]

    def unsent(self, unit: WorkUnit, packets: int) -> None:
        self.batches.append(-packets)

    def owe(self, unit: WorkUnit, address: str, ask: Ask, packets: int) -> None:
        self.admitted.append((address, ask, packets))
        self.batches.append(packets)

    def control(self, unit: WorkUnit, packets: int) -> None:
        self.batches.append(-packets)

    def sent(self, addresses: Addresses, ports: Ports) -> None:
        """What left past the taps is no matter of this gate."""

    def hold(self, unit: WorkUnit, reason: str) -> None:
        self.held.append(reason)

    def check_unit(self) -> None:
        if self.halted or (self._halt_after is not None and len(self.admitted) >= self._halt_after):
            raise Halted("revoked in a test")

    def mask(self, unit: WorkUnit) -> ScopeMask:
        return NotingMask({}, {}, ALL, ALL, True, self)

    def refusal(self, unit: WorkUnit, address: str, ask: Ask) -> str:
        return f"{ask.kind}/{ask.port} is refused in a test"

    def per_host(self, unit: WorkUnit) -> float:
        return float(unit.per_host_per_second)

    def covers(self, address: str, ask: Ask) -> bool:
        """Judge one packet of a batch, and note it if it may leave."""
        refused = self._refuse(address, ask)
        if not refused:
            self.admitted.append((address, ask, 1))
        return not refused

    @property
    def packets(self) -> int:
        return sum(self.batches)


def make_unit(
    addresses: Sequence[str], ports: str, probes: Sequence[str] = (), names: Sequence[tuple[str, str]] = (), udp: str | None = None
) -> WorkUnit:
    bits = 64 if ip_address(addresses[0]).version == 6 else 24
    return WorkUnit(
        unit_id="unit-1",
        run_id="run-1",
        zone="default",
        subnet=str(ip_network((addresses[0], bits), strict=False)),
        addresses=tuple(addresses),
        names=tuple(PinnedName(name=name, address=address) for name, address in names),
        tcp_ports=parse_ports(ports),
        udp_ports=parse_ports(udp) if udp else (),
        probes=tuple(probes),
        grant_id="grant-1",
        grant_revision=1,
        packets_per_second=100_000,
        per_host_per_second=1000,
        cause=Cause.PUSHED,
        planned_at=NOON,
        expires_at=NOON + timedelta(hours=1),
    )


def scan(
    unit: WorkUnit, gate: NotingGate | None = None, settings: ScannerSettings | None = None, engine: str = "connect", limit: float = 60.0
) -> UnitReport:
    """Run a unit to its end in an event loop of its own."""
    surroundings = Surroundings("agent-1", settings or ScannerSettings(), gate or NotingGate(), engine, 1, lambda: NOON, limit)
    return asyncio.run(run_unit(unit, surroundings))


@contextmanager
def running(arguments: Sequence[str], port: int, address: str = "127.0.0.1", log: Path | None = None) -> Iterator[int]:
    """A real server, from the moment its port takes connections; ended by its process id. Yields the id."""
    with (log or Path("/dev/null")).open("ab") as output:
        process = subprocess.Popen(list(arguments), stdin=subprocess.DEVNULL, stdout=output, stderr=output)
    try:
        wait_until(lambda: process.poll() is not None or is_open(address, port))
        if process.poll() is not None:
            raise RuntimeError(f"{arguments[0]} ended at once: {log.read_text() if log else ''}")
        yield process.pid
    finally:
        end(process, 5)


def is_open(address: str, port: int) -> bool:
    try:
        socket.create_connection((address, port), 1).close()
    except OSError:
        return False
    return True


def wait_until(condition: Callable[[], bool], seconds: float = DEADLINE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {seconds} s")
        time.sleep(0.02)


def make_certificate(folder: Path, name: str) -> tuple[Path, Path, bytes]:
    """A self-signed certificate and its key as PEM files, and its DER form."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOON)
        .not_valid_after(NOON + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ip_address("198.18.210.7"))]), critical=False)
        .sign(key, hashes.SHA256())
    )
    certificate, secret = folder / f"{name}.crt", folder / f"{name}.key"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return certificate, secret, made.public_bytes(serialization.Encoding.DER)
