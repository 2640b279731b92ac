"""Signed grants, units and a runner that needs no network, for tests of the scanner's runtime."""

from __future__ import annotations

import asyncio
import base64
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from infra.core.clock import uptime
from infra.core.settings import KafkaSettings, ScannerSettings, ScopeSettings, Settings, Signer
from processors.scan.scope.gate import Gate, Halted
from schemas.events.base import PortRange
from schemas.events.grants import Grant, Intensity
from schemas.events.observations import HostObservation, HostPorts, SweepResult
from schemas.events.targets import Cause, WorkUnit
from schemas.ids import content_id, subnet_of
from schemas.portset import expand, ranges
from schemas.scope import Ask
from schemas.signing import sign

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
SIGNER = Signer(name="tester", public_key=base64.b64encode(KEY.public_key().public_bytes_raw()).decode(), networks=("198.18.0.0/15",))


def scan_settings(bootstrap: str, folder: Path, prefix: str, slot: int = 0, **scanner: Any) -> Settings:
    """Settings of one scanner on four partitions that trusts `SIGNER`."""
    return Settings(
        data_dir=folder,
        slot=slot,
        kafka=KafkaSettings(bootstrap=bootstrap, prefix=prefix, partitions=4),
        scope=ScopeSettings(signers=(SIGNER,)),
        scanner=ScannerSettings(agent_id=f"agent-{slot}", **scanner),
    )


def make_grant(revision: int = 1, **over: Any) -> Grant:
    """A signed grant for 198.18.0.0/15, TCP 1–1000, 1000 packets a second."""
    now = datetime.now(UTC)
    fields: dict[str, Any] = {
        "grant_id": "lab",
        "revision": revision,
        "zones": ("default",),
        "networks": ("198.18.0.0/15",),
        "tcp_ports": (PortRange(first=1, last=1000),),
        "intensity": Intensity(packets_per_second=1000, per_host_per_second=1000),
        "valid_from": now - timedelta(hours=1),
        "expires_at": now + timedelta(hours=1),
        "issued_by": "test",
        "signer": "tester",
    }
    return sign(Grant.model_validate(fields | over), KEY)


def make_unit(number: int = 0, ports: int = 1, address: str | None = None, rate: int = 1000, **over: Any) -> WorkUnit:
    """A unit of one host and `ports` ports, each number in a subnet of its own unless `address` says otherwise."""
    now = datetime.now(UTC)
    where = address or f"198.18.{number % 250}.1"
    fields: dict[str, Any] = {
        "unit_id": content_id("unit", number),
        "run_id": "run",
        "zone": "default",
        "subnet": subnet_of(where),
        "addresses": (where,),
        "tcp_ports": (PortRange(first=1, last=ports),),
        "probes": (),
        "grant_id": "lab",
        "grant_revision": 1,
        "packets_per_second": rate,
        "per_host_per_second": rate,
        "cause": Cause.PUSHED,
        "planned_at": now,
        "expires_at": now + timedelta(minutes=30),
    }
    return WorkUnit.model_validate(fields | over)


def sweep_of(unit: WorkUnit, agent: str, attempt: int, packets: int) -> SweepResult:
    """A complete result in which everything was silent."""
    now = datetime.now(UTC)
    return SweepResult(
        unit_id=unit.unit_id,
        run_id=unit.run_id,
        zone=unit.zone,
        subnet=unit.subnet,
        grant_id=unit.grant_id,
        agent_id=agent,
        attempt=attempt,
        engine="wire",
        probed=unit.addresses,
        ports=unit.tcp_ports,
        hosts=(),
        packets_sent=packets,
        loss=0.0,
        recall=1.0,
        recall_samples=0,
        started_at=now,
        finished_at=now,
    )


def partial_of(unit: WorkUnit, agent: str, left: list[tuple[str, int]], reason: str) -> SweepResult:
    """A result that says which addresses and ports were not probed."""
    hosts = tuple(
        HostPorts(address=address, not_probed=ranges(port for one, port in left if one == address))
        for address in unit.addresses
        if any(one == address for one, _ in left)
    )
    whole = sweep_of(unit, agent, 1, 0)
    return whole.model_copy(update={"complete": False, "stopped_reason": reason, "hosts": hosts})


@dataclass(frozen=True, slots=True)
class WireReport:
    """What `Wire` reports."""

    sweeps: tuple[SweepResult, ...]
    hosts: tuple[HostObservation, ...]
    packets: int


@dataclass(frozen=True, slots=True)
class Packet:
    """One line of the wire: when (uptime), whose, where to."""

    at: float
    unit_id: str
    address: str
    port: int
    process: int


class Wire:
    """A runner whose packets are lines in a file: what is there was sent, whatever becomes of the process.

    Units may carry wishes as probes: `slow-end` takes two seconds more, `broken` fails, `partial` catches a halt and reports what it has.
    """

    def __init__(self, path: Path, agent: str = "agent-0") -> None:
        self.path, self.agent = path, agent
        self._file = os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    async def run(self, unit: WorkUnit, gate: Gate, attempt: int) -> WireReport:
        """Send a packet to every port of every address."""
        count = 0
        asks = [(address, port) for address in unit.addresses for port in expand(unit.tcp_ports)]
        for address, port in asks:
            try:
                await gate.admit(unit, address, Ask("tcp", port))
            except Halted as halt:
                if "partial" in unit.probes:
                    return WireReport((partial_of(unit, self.agent, asks[count:], halt.reason),), (), count)
                raise
            os.write(self._file, f"{uptime()} {unit.unit_id} {address} {port} {os.getpid()}\n".encode())
            count += 1
        if "slow-end" in unit.probes:
            await asyncio.sleep(2.0)
        if "broken" in unit.probes:
            raise RuntimeError("a probe broke")
        return WireReport((sweep_of(unit, self.agent, attempt, count),), (), count)


def packets_on(path: Path) -> list[Packet]:
    """Everything that was sent, in the order of the file."""
    found = []
    for line in path.read_text().splitlines() if path.exists() else []:
        at, unit, address, port, process = line.split()
        found.append(Packet(float(at), unit, address, int(port), int(process)))
    return found
