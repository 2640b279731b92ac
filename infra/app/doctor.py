"""Checks of everything that Driftline needs on this machine: each says what it found, what to do, and mends it where it can."""

from __future__ import annotations

import importlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from urllib.parse import urlsplit

from infra.app.roles import MODULES
from infra.app.runfolder import is_running
from infra.core.errors import DriftlineError
from infra.core.settings import Settings
from infra.core.trust import load_signers
from infra.local import jars, packages
from infra.local.java import find_java
from infra.local.lab.network import trial

FOLDERS = ("schemas", "producers", "processors", "consumers", "infra")
NEEDED_BYTES = 2 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at. `needed`: Driftline can't run without it; else something is only left out."""

    name: str
    ok: bool
    found: str
    fix: str = ""
    needed: bool = True
    mend: Callable[[], None] | None = None


def checks(settings: Settings) -> Iterator[Check]:
    """Look at everything, one after the other."""
    yield _own_packages()
    yield _data_folder(settings)
    yield _disk(settings)
    if settings.kafka.bootstrap is None:
        yield _java(settings)
        yield _jars(settings)
    else:
        yield _reachable("kafka", settings.kafka.bootstrap.split(",")[0], "DRIFTLINE_KAFKA__BOOTSTRAP")
    if settings.clickhouse.dsn is not None:
        yield _reachable("clickhouse", _address(settings.clickhouse.dsn.get_secret_value(), 8123), "DRIFTLINE_CLICKHOUSE__DSN")
    if settings.registry.url is not None:
        yield _reachable("registry", _address(settings.registry.url, 8081), "DRIFTLINE_REGISTRY__URL")
    yield from port_checks(settings)
    yield _programs("probe programs", packages.PROBES, "service versions and paths are not looked up")
    yield _programs("lab programs", packages.LAB, "the demo uses loopback services instead of the lab")
    yield _raw_sockets()
    yield _namespaces()
    yield _signers(settings)
    yield _ways_out(settings)


def _ways_out(settings: Settings) -> Check:
    """How SYNs would leave by each interface. Not a matter of good or bad: where nothing is allowed, ports are swept by connects."""
    from processors.scan.sweep.backends import FAST, explain, wanted_of
    from processors.scan.unit import choose_engine

    try:
        engine, why = choose_engine(settings.scanner)
        ways = [f"{', '.join(names)}: {way}" for way, names in explain(settings.scanner).items()] if engine == "syn" else [why]
    except (DriftlineError, OSError) as error:
        return Check("sweep", False, str(error), "Run as root, or set DRIFTLINE_SCANNER__ENGINE=auto.")
    if engine == "syn" and wanted_of(settings.scanner) == "sendmmsg":
        ways.append(f"AF_XDP and TX ring are taken on a single core from {FAST:,} packets a second")
    return Check("sweep", True, "; ".join([engine, *ways]))


def _own_packages() -> Check:
    """Generic top-level names can be shadowed by another wheel without a word from pip."""
    root = Path(str(distribution("driftline").locate_file(""))).resolve()
    here = Path(__file__).resolve().parents[2]
    foreign = []
    for name in FOLDERS:
        file = importlib.import_module(name).__file__
        if file is None or Path(file).resolve().parents[1] not in (root, here):
            foreign.append(f"{name} ({file})")
    fix = "Install Driftline in an environment of its own." if foreign else ""
    return Check("packages", not foreign, "shadowed: " + ", ".join(foreign) if foreign else "all five are Driftline's", fix)


def _data_folder(settings: Settings) -> Check:
    folder = settings.data_dir
    exists = folder.is_dir() and os.access(folder, os.W_OK)
    makeable = not folder.exists() and os.access(_nearest(folder), os.W_OK)
    found = str(folder) if exists else f"{folder} will be made" if makeable else f"{folder} can't be written"
    return Check(
        "data folder", exists or makeable, found, "" if exists or makeable else "Set DRIFTLINE_DATA_DIR to a folder you may write."
    )


def _disk(settings: Settings) -> Check:
    free = shutil.disk_usage(_nearest(settings.data_dir)).free
    ok = free >= NEEDED_BYTES
    return Check("disk", ok, f"{free / 1e9:.1f} GB free", "" if ok else "Free 2 GB, or set DRIFTLINE_DATA_DIR to a roomier place.")


def _java(settings: Settings) -> Check:
    try:
        java = find_java(settings.broker.java)
        return Check("java", True, f"{java.version}, {java.executable}")
    except DriftlineError as error:
        return Check("java", False, error.message, error.fix)


def _jars(settings: Settings) -> Check:
    absent = jars.missing_bytes(settings.broker.jars)
    if not absent:
        return Check("kafka's jars", True, "there")

    def mend() -> None:
        jars.find_jars(settings.broker.jars)

    return Check("kafka's jars", False, f"{absent / 1e6:.0f} MB are missing", "driftline doctor --fix downloads them.", mend=mend)


def port_checks(settings: Settings) -> Iterator[Check]:
    """Whether every port that Driftline would listen on is free, or its own already."""
    wanted = {"DRIFTLINE_STORE__PORT": settings.store.port}
    if settings.kafka.bootstrap is None:
        wanted |= {"DRIFTLINE_BROKER__PORT": settings.broker.port, "DRIFTLINE_BROKER__CONTROLLER_PORT": settings.broker.controller_port}
    if is_running(settings):
        yield Check("ports", True, "held by the Driftline that runs with this data folder")
        return
    for name, port in wanted.items():
        free = _is_free(port)
        yield Check(f"port {port}", free, "free" if free else "in use", "" if free else f"Set {name} to another port.")
    first = settings.telemetry.port_base + settings.slot * len(MODULES)
    taken = [str(port) for port in range(first, first + len(MODULES)) if not _is_free(port)]
    fix = "Set DRIFTLINE_TELEMETRY__PORT_BASE to another port; health and metrics take ten from there on." if taken else ""
    found = f"in use: {', '.join(taken)}" if taken else "free"
    yield Check(f"ports {first}-{first + len(MODULES) - 1}", not taken, found, fix)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except (OSError, OverflowError):
            return False
    return True


def _address(url: str, port: int) -> str:
    """host:port of a URL, without the password that may be in it."""
    parts = urlsplit(url)
    try:
        return f"{parts.hostname}:{parts.port or port}"
    except ValueError:
        return parts.hostname or "?"


def _reachable(name: str, address: str, setting: str) -> Check:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=3.0).close()
    except (OSError, ValueError, OverflowError) as error:
        return Check(name, False, f"{address}: {error}", f"Check {setting}.")
    return Check(name, True, f"{address} answers")


def _programs(name: str, wanted: dict[str, str], without: str) -> Check:
    absent = packages.missing(wanted)
    if not absent:
        return Check(name, True, ", ".join(wanted), needed=False)
    root = os.geteuid() == 0 and shutil.which("apt-get") is not None

    def mend() -> None:
        environment = {**packages.environment(), "DEBIAN_FRONTEND": "noninteractive"}
        install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *absent]
        # What apt says goes to standard error: standard output is for the result.
        if subprocess.run(install, check=False, env=environment, stdout=sys.stderr).returncode:
            subprocess.run(["apt-get", "update", "-q"], check=True, env=environment, stdout=sys.stderr)
            subprocess.run(install, check=True, env=environment, stdout=sys.stderr)

    fix = f"As root: apt-get install {' '.join(absent)}. Without them {without}."
    return Check(name, False, f"missing: {', '.join(absent)}", fix, needed=False, mend=mend if root else None)


def _raw_sockets() -> Check:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP).close()
    except OSError as error:
        return Check(
            "raw sockets", False, str(error), "Run the scanner with CAP_NET_RAW for SYN sweeps; until then it connects.", needed=False
        )
    return Check("raw sockets", True, "allowed", needed=False)


def _namespaces() -> Check:
    refusal = "not root" if os.geteuid() != 0 else trial()
    fix = "The demo uses loopback services instead of the lab." if refusal else ""
    return Check("network namespaces", refusal is None, refusal or "allowed", fix, needed=False)


def _signers(settings: Settings) -> Check:
    try:
        names = [one.name for one in load_signers(settings)]
    except DriftlineError as error:
        return Check("signers", False, error.message, error.fix)
    fix = "" if names else "'driftline grant keygen --network …' makes a key; without a signer nothing may be probed."
    return Check("signers", bool(names), ", ".join(names) or "nobody may sign grants yet", fix, needed=False)


def _nearest(folder: Path) -> Path:
    """The folder, or the first of its parents that exists."""
    return next(one for one in (folder, *folder.absolute().parents) if one.exists())
