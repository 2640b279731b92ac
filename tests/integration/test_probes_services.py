"""The probes against real services that Debian ships, on loopback."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from processors.scan.unit import UnitReport
from schemas.events.observations import HostObservation, ServiceObservation
from tests.scanning import NotingGate, make_certificate, make_unit, running, scan

HOST = "127.0.0.1"
NGINX = """
user root; pid {folder}/nginx.pid; error_log {folder}/error.log; daemon off; events {{}}
http {{
  access_log {folder}/access.log; root {folder};
  server {{ listen 127.0.0.1:21080; }}
  server {{ listen 127.0.0.1:21443 ssl; ssl_protocols TLSv1 TLSv1.1 TLSv1.2; ssl_ciphers ALL:@SECLEVEL=0;
           ssl_certificate {folder}/old.example.crt; ssl_certificate_key {folder}/old.example.key; }}
  server {{ listen 127.0.0.1:21444 ssl; server_name new.example; ssl_protocols TLSv1.2 TLSv1.3;
           ssl_certificate {folder}/new.example.crt; ssl_certificate_key {folder}/new.example.key; return 200 "for $host\\n"; }}
}}
"""
PORTS = "21021-21022,21080,21211,21379-21380,21443-21444,21883,21999"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("services")
    made.chmod(0o755)
    return made


@pytest.fixture(scope="module")
def certificates(folder: Path) -> dict[str, bytes]:
    return {name: make_certificate(folder, name)[2] for name in ("old.example", "new.example")}


@pytest.fixture(scope="module")
def services(folder: Path, certificates: dict[str, bytes]) -> Iterator[None]:
    (folder / "nginx.conf").write_text(NGINX.format(folder=folder))
    (folder / "index.html").write_text("<html><head><title>Lab &amp; more</title></head></html>")
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host_key"], check=True)
    (folder / "mosquitto.conf").write_text("listener 21883 127.0.0.1\nallow_anonymous true\nuser root\n")
    (folder / "vsftpd.conf").write_text(
        "listen=YES\nbackground=NO\nlisten_address=127.0.0.1\nlisten_port=21021\nanonymous_enable=YES\nlocal_enable=NO\n"
        f"anon_root=/var/empty\nsecure_chroot_dir=/var/empty\nseccomp_sandbox=NO\nvsftpd_log_file={folder}/vsftpd.log\n"
    )
    Path("/var/empty").mkdir(exist_ok=True)
    Path("/run/sshd").mkdir(exist_ok=True)
    redis = ["redis-server", "--bind", HOST, "--save", "", "--dir", str(folder)]
    commands = {
        21021: ["vsftpd", str(folder / "vsftpd.conf")],
        21022: [
            shutil.which("sshd") or "/usr/sbin/sshd",
            "-D",
            "-e",
            "-f",
            "/dev/null",
            "-h",
            str(folder / "host_key"),
            "-o",
            "ListenAddress=127.0.0.1:21022",
            "-o",
            "PidFile=none",
        ],
        21080: ["nginx", "-c", str(folder / "nginx.conf"), "-e", str(folder / "early.log")],
        21211: ["memcached", "-u", "nobody", "-l", HOST, "-p", "21211", "-U", "0"],
        21379: [*redis, "--port", "21379"],
        21380: [*redis, "--port", "21380", "--requirepass", "secret"],
        21883: ["mosquitto", "-c", str(folder / "mosquitto.conf")],
    }
    with ExitStack() as stack:
        for port, command in commands.items():
            stack.enter_context(running(command, port, log=folder / f"{port}.log"))
        yield


@pytest.fixture(scope="module")
def report(services: None) -> UnitReport:
    return scan(make_unit([HOST], PORTS, names=[("new.example", HOST)]))


@pytest.fixture
def host(report: UnitReport) -> HostObservation:
    assert len(report.hosts) == 1
    return report.hosts[0]


def at(host: HostObservation, port: int) -> ServiceObservation:
    return next(one for one in host.services if one.port == port)


def version_of(package: str) -> str:
    """The upstream part of a Debian package's version."""
    shown = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True, check=True).stdout
    return shown.rpartition(":")[2].partition("-")[0].partition("+")[0]


def test_every_service_is_seen_and_nothing_else(report: UnitReport, host: HostObservation) -> None:
    (sweep,) = report.sweeps
    assert sweep.complete
    assert sweep.hosts[0].answered == (21021, 21022, 21080, 21211, 21379, 21380, 21443, 21444, 21883)
    assert [(span.first, span.last) for span in sweep.hosts[0].closed] == [(21999, 21999)]
    assert [one.port for one in host.services] == list(sweep.hosts[0].answered)
    assert host.names == ("new.example",)
    assert host.path is None
    assert report.packets > sweep.packets_sent > 0


def test_ssh_greeting_gives_product_version_and_patch_level(host: HostObservation) -> None:
    seen = at(host, 21022)
    assert (seen.service, seen.product) == ("ssh", "OpenSSH")
    assert seen.version == version_of("openssh-server").replace("p1", "") + "p1"
    assert seen.extra.startswith("Debian")
    assert seen.evidence == ("banner",)


def test_http_title_and_server(host: HostObservation) -> None:
    seen = at(host, 21080)
    assert seen.http is not None
    assert (seen.service, seen.http.status, seen.http.title) == ("http", 200, "Lab & more")
    assert (seen.product, seen.version) == ("nginx", version_of("nginx"))
    assert "date" not in seen.http.headers
    assert seen.tls is None


def test_outdated_tls_is_seen_and_the_certificate_is_read(host: HostObservation, certificates: dict[str, bytes]) -> None:
    seen = at(host, 21443)
    assert seen.tls is not None
    assert seen.tls.certificate is not None
    assert seen.service == "https"
    assert seen.tls.outdated == ("TLSv1", "TLSv1.1")
    assert seen.tls.version == "TLSv1.2"
    assert seen.tls.certificate.sha256 == hashlib.sha256(certificates["old.example"]).hexdigest()
    assert seen.tls.certificate.self_signed
    assert (seen.tls.certificate.key_type, seen.tls.certificate.key_bits) == ("EC", 256)
    assert seen.tls.certificate.names == ("198.18.210.7", "old.example")


def test_modern_tls_is_not_called_outdated_and_gets_the_pinned_name(host: HostObservation, certificates: dict[str, bytes]) -> None:
    seen = at(host, 21444)
    assert seen.tls is not None
    assert seen.tls.certificate is not None
    assert seen.http is not None
    assert (seen.tls.version, seen.tls.outdated) == ("TLSv1.3", ())
    assert seen.tls.certificate.sha256 == hashlib.sha256(certificates["new.example"]).hexdigest()
    assert seen.http.status == 200


@pytest.mark.parametrize(
    ("port", "service", "product", "package", "facts"),
    [
        (21379, "redis", "Redis", "redis-server", {"redis.auth": "none"}),
        (21211, "memcached", "Memcached", "memcached", {"memcached.auth": "none"}),
        (21883, "mqtt", "Mosquitto", "mosquitto", {"mqtt.auth": "none"}),
        (21021, "ftp", "vsFTPd", "vsftpd", {"ftp.anonymous": "yes"}),
    ],
)
def test_open_doors(host: HostObservation, port: int, service: str, product: str, package: str, facts: dict[str, str]) -> None:
    seen = at(host, port)
    assert (seen.service, seen.product, seen.version, seen.facts) == (service, product, version_of(package), facts)


def test_redis_with_a_password_is_told_apart(host: HostObservation) -> None:
    seen = at(host, 21380)
    assert (seen.service, seen.product, seen.facts) == ("redis", "Redis", {"redis.auth": "required"})


def test_the_same_look_again_tells_the_same(services: None, report: UnitReport) -> None:
    again = scan(make_unit([HOST], PORTS, names=[("new.example", HOST)]))
    assert again.hosts == report.hosts


def test_nmap_names_what_the_cheap_probes_were_not_asked_for(services: None) -> None:
    gate = NotingGate()
    report = scan(make_unit([HOST], "21080,21999", probes=["nmap"]), gate)
    (seen,) = report.hosts[0].services
    assert (seen.service, seen.product, seen.version, seen.evidence) == ("http", "nginx", version_of("nginx"), ("nmap",))
    assert seen.cpes == (f"cpe:/a:igor_sysoev:nginx:{version_of('nginx')}",)
    assert sum(packets for _, ask, packets in gate.admitted if ask.port == 21080) >= 30
    assert sum(packets for _, ask, packets in gate.admitted if ask.port == 21999) == 1


def test_hping3_gives_a_second_opinion(services: None) -> None:
    if not shutil.which("hping3"):
        pytest.skip("hping3 is not installed")
    report = scan(make_unit([HOST], "21080,21999", probes=["hping3"]))
    assert report.hosts[0].services[0].facts == {"syn.answer": "SA"}
