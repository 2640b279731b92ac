"""However much a host says, what is told of it fits a record, and says its ports."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

from infra.core.clock import uptime
from processors.scan.look import Look
from processors.scan.meter import Meter
from processors.scan.partial import Outcome
from processors.scan.probing.evidence import Evidence
from processors.scan.probing.fitting import fitted
from processors.scan.publish import TOO_LARGE, too_large
from processors.scan.scope.admission import ScannerGate, UnitGate
from processors.scan.scope.authority import Authority
from schemas.codec import Codec
from schemas.events.base import PortRange
from schemas.events.observations import Certificate, HostObservation, HttpFacts, ServiceObservation, TlsFacts
from tests.scan_samples import make_unit, scan_settings, sweep_of

NOW = datetime(2026, 3, 4, tzinfo=UTC)


def talkative(number: int) -> Evidence:
    certificate = Certificate(
        sha256="0" * 64,
        subject="s" * 512,
        issuer="i" * 512,
        names=tuple(f"{number}-{one}-".ljust(255, "x") for one in range(100)),
        not_before=NOW,
        not_after=NOW,
        key_type="RSA",
        key_bits=2048,
    )
    http = HttpFacts(status=200, title="é" * 512, headers={f"x-{one}": "h" * 512 for one in range(13)})
    return Evidence(
        service="https",
        product="nginx",
        banner="b" * 512,
        tls=TlsFacts(version="TLSv1.3", certificate=certificate),
        http=http,
        sources=("tls",),
    )


def observed(tmp_path: Path, known: dict[int, Evidence], names: int = 1) -> HostObservation:
    settings, unit = scan_settings("127.0.0.1:1", tmp_path, ""), make_unit(1)
    gate = UnitGate(ScannerGate(settings, Authority(settings, "a", Codec()), uptime, lambda: NOW), unit)
    look = Look(unit, "agent", settings.scanner, 1, lambda: NOW, Meter(gate, unit))
    return look.observe("198.18.1.1", tuple(f"{one}.example".rjust(250, "n") for one in range(names)), known, None)


def test_a_host_with_tls_on_many_ports_fits_a_record_and_keeps_ports_and_products(tmp_path: Path) -> None:
    host = observed(tmp_path, {port: talkative(port) for port in range(1, 60)}, names=5000)
    assert len(Codec().encode("probes", host)) < 512 * 1024
    assert [one.port for one in host.services] == list(range(1, 60))
    assert all((one.service, one.product, one.evidence) == ("https", "nginx", ("tls",)) for one in host.services)
    assert all(one.tls and one.tls.certificate and one.tls.certificate.sha256 for one in host.services)
    assert len(host.names) == 100


def test_ports_stay_when_nothing_else_can(tmp_path: Path) -> None:
    host = observed(tmp_path, {port: talkative(port) for port in range(1, 10_001)})
    assert len(Codec().encode("probes", host)) < 512 * 1024
    assert len(host.services) == 10_000


def test_what_fits_is_told_whole_and_small_services_stay_whole_beside_large_ones(tmp_path: Path) -> None:
    few = observed(tmp_path, {1: talkative(1), 2: Evidence(service="ssh", banner="SSH-2.0")})
    assert len(few.services[0].tls.certificate.names if few.services[0].tls and few.services[0].tls.certificate else ()) == 100
    many = observed(tmp_path, {22: Evidence(service="ssh", banner="SSH-2.0")} | {port: talkative(port) for port in range(100, 160)})
    assert many.services[0] == ServiceObservation(port=22, service="ssh", banner="SSH-2.0")
    assert fitted(()) == ()


def test_results_that_no_record_holds_end_the_unit_with_a_reason_and_claim_nothing() -> None:
    unit = make_unit(1, ports=3)
    outcome = too_large(Outcome((sweep_of(unit, "agent", 1, 3),)))
    (sweep,) = outcome.sweeps
    assert (sweep.probed, sweep.hosts, sweep.complete, sweep.stopped_reason) == ((), (), False, TOO_LARGE)
    assert (sweep.ports, outcome.hosts, str(outcome.error)) == ((PortRange(first=1, last=3),), (), TOO_LARGE)
