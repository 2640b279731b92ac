"""What a correct scan of the lab must find, asked of the programs and files themselves and never of the network."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

from infra.local.lab.certificates import Certificate
from infra.local.lab.plan import Kind, Service
from infra.local.packages import environment

# kind → (product as Nmap's table names it, command that prints its version, pattern of the version)
PROGRAMS: dict[Kind, tuple[str, tuple[str, ...], str]] = {
    "http": ("nginx", ("nginx", "-v"), r"nginx/([\d.]+)"),
    "https": ("nginx", ("nginx", "-v"), r"nginx/([\d.]+)"),
    "ssh": ("OpenSSH", ("ssh", "-V"), r"OpenSSH_([^\s,]+(?: [A-Z][^\s,]+)?)"),
    "redis": ("Redis key-value store", ("redis-server", "--version"), r"v=([\d.]+)"),
    "memcached": ("Memcached", ("memcached", "-h"), r"memcached ([\d.]+)"),
    "ftp": ("vsftpd", ("vsftpd", "-v"), r"version ([\d.]+)"),
    "mqtt": ("mosquitto", ("mosquitto", "-h"), r"mosquitto version ([\d.]+)"),
}


@dataclass(frozen=True, slots=True, order=True)
class ServiceTruth:
    """One service at one address: what is reachable, and what it is. `certificate_sha256` is lower-case hex of the DER form."""

    address: str
    port: int
    transport: Literal["tcp"]
    kind: Kind
    product: str
    version: str
    certificate_sha256: str | None = None


def version(kind: Kind) -> str:
    """The installed program's version, as Nmap would write it (`9.2p1 Debian 2+deb12u10`). Raises ValueError if it does not say."""
    _, command, pattern = PROGRAMS[kind]
    # vsftpd writes its version to file descriptor 0; the others to 1 or 2.
    shell = ["sh", "-c", 'exec "$@" 0>&1 2>&1', "sh", *command]
    done = subprocess.run(shell, capture_output=True, text=True, timeout=10, check=False, env=environment())
    found = re.search(pattern, done.stdout)
    if not found:
        raise ValueError(f"{' '.join(command)} says no version: {done.stdout[:200]!r}")
    return re.sub(r"^(\S+) (Debian|Ubuntu)-", r"\1 \2 ", found.group(1))


def truth(
    services: Iterable[Service],
    addresses: Mapping[str, tuple[str, ...]],
    certificates: Mapping[str, Certificate],
    plain: Iterable[Kind] = (),
) -> list[ServiceTruth]:
    """Every service at every address of its host, sorted. `plain` kinds are answered by Python's own servers."""
    known: dict[Kind, tuple[str, str]] = {}
    rows = []
    for service in services:
        if service.kind not in known:
            known[service.kind] = PLAIN[service.kind] if service.kind in plain else (PROGRAMS[service.kind][0], version(service.kind))
        product, number = known[service.kind]
        sha256 = certificates[service.certificate].sha256 if service.certificate else None
        rows += [ServiceTruth(one, service.port, "tcp", service.kind, product, number, sha256) for one in addresses[service.host]]
    return sorted(rows)


_PYTHON = ("BaseHTTPServer", f"0.6 Python {sys.version.split()[0]}")
PLAIN: dict[Kind, tuple[str, str]] = {"http": _PYTHON, "https": _PYTHON, "ftp": ("", ""), "telnet": ("telnet", "")}
