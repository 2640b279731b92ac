"""The lab for machines without root or namespaces: a few services on high ports of 127.0.0.1, run as the ordinary user.

Real daemons where they are installed, servers from Python's standard library for the rest.
"""

from __future__ import annotations

import shutil
import socket
import sys
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from infra.core.errors import MissingPrerequisite
from infra.local.lab.certificates import Certificate, certificate
from infra.local.lab.plan import CERTIFICATES, Kind, Service
from infra.local.lab.recipes import RECIPES, Recipe, Site
from infra.local.lab.services import Daemons, Place
from infra.local.lab.truth import PLAIN, PROGRAMS, ServiceTruth, truth
from infra.local.packages import missing

log = structlog.get_logger()
ADDRESS = "127.0.0.1"
DYING_SECONDS = 2.0
# kind and certificate, in the order of their ports
SERVICES: tuple[tuple[Kind, str | None], ...] = (("http", None), ("https", "expired"), ("redis", None), ("ftp", None), ("telnet", None))


class LoopbackLab:
    """The same face as `Lab`. Nmap tells Redis' version on its usual port only, so a scan finds less than `truth()` there.

    Ports are `first_port` and the four that follow; they stay the same from run to run.
    """

    interface = "lo"

    def __init__(self, data_dir: Path, first_port: int = 15080) -> None:
        self._folder = data_dir / "loopback-lab"
        self._run = self._folder / "run"
        everything = [Service("loopback", kind, first_port + at, name) for at, (kind, name) in enumerate(SERVICES)]
        self._all = tuple(one for one in everything if one.kind in PLAIN or _uses_daemon(one.kind))
        self._services: tuple[Service, ...] = ()
        self._daemons: Daemons | None = None

    @staticmethod
    def prerequisites() -> list[str]:
        """What stands in the way, in sentences."""
        return [] if shutil.which("setpriv") else ["The program setpriv (package util-linux) is missing."]

    def up(self) -> None:
        """Start every service but telnet; returns when all listen. Raises MissingPrerequisite where a port is in use."""
        if problems := self.prerequisites():
            raise MissingPrerequisite(" ".join(problems), "Install it.")
        until = time.monotonic() + DYING_SECONDS
        for service in self._all:
            _refuse_if_taken(service.port, until)
        self._daemons = Daemons(Place(self._run, self._command))
        wanted = tuple(one for one in self._all if one.kind != "telnet")
        try:
            self._daemons.start(self._recipes(wanted))
        except BaseException:
            self.down()
            raise
        self._services = wanted
        log.info("loopback_lab_up", ports=self.ports())

    def change(self) -> None:
        """Open telnet, close FTP, swap the certificate. A second call does nothing."""
        if self._daemons is None:
            raise RuntimeError("the lab is not up")
        kept = (replace(one, certificate="expiring") if one.certificate else one for one in self._all)
        wanted = tuple(one for one in kept if one.kind != "ftp")
        self._daemons.stop(one.name for one in self._services if one not in wanted)
        self._daemons.start(self._recipes(one for one in wanted if one not in self._services))
        self._services = wanted

    def hide(self, port: int) -> tuple[str, int]:
        """Open a second web server at this port, which `truth` does not tell of; where it is."""
        if self._daemons is None:
            raise RuntimeError("the lab is not up")
        _refuse_if_taken(port, time.monotonic() + DYING_SECONDS)
        self._daemons.start(self._recipes((Service("loopback", "http", port),)))
        return ADDRESS, port

    def down(self) -> None:
        """Stop everything. May be called any number of times."""
        if self._daemons is not None:
            self._daemons.stop_all()
            self._daemons = None
        self.clean()

    def clean(self) -> None:
        """Remove the daemons' files. Their processes end with the one that started them."""
        shutil.rmtree(self._run, ignore_errors=True)

    def networks(self) -> list[str]:
        """What a grant has to cover."""
        return [f"{ADDRESS}/32"]

    def targets(self) -> list[str]:
        """What a campaign should name."""
        return self.networks()

    def hosts(self) -> list[str]:
        """The one address that answers."""
        return [ADDRESS]

    def ports(self) -> list[int]:
        """The ports to look at, those that `change` opens included."""
        return [one.port for one in self._all]

    def truth(self) -> list[ServiceTruth]:
        """What a correct scan finds now."""
        certificates = {one.certificate: self._certificate(one.certificate) for one in self._services if one.certificate}
        plain = [one.kind for one in self._services if not _uses_daemon(one.kind)]
        return truth(self._services, {"loopback": (ADDRESS,)}, certificates, plain)

    def _certificate(self, name: str) -> Certificate:
        return certificate(self._folder / "keys", CERTIFICATES[name], datetime.now(UTC))

    def _recipes(self, services: Iterable[Service]) -> list[tuple[Service, Recipe]]:
        made = []
        for one in services:
            found = self._certificate(one.certificate) if one.certificate else None
            site = Site((ADDRESS,), str(self._run / one.name), found)
            made.append((one, RECIPES[one.kind](one, site) if _uses_daemon(one.kind) else _plain(one, site)))
        return made

    def _command(self, service: Service, recipe: Recipe) -> list[str]:
        del service
        return ["setpriv", "--pdeathsig=KILL", *recipe.argv]

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.down()


def _uses_daemon(kind: Kind) -> bool:
    """Whether the real daemon can run here (vsftpd wants root)."""
    return kind in PROGRAMS and kind != "ftp" and not missing({kind: PROGRAMS[kind][1][0]})


def _plain(service: Service, site: Site) -> Recipe:
    files: dict[str, str] = {}
    paths: tuple[str, ...] = ()
    if site.certificate:
        files = {"tls.pem": site.certificate.pem, "tls.key": site.certificate.key_pem}
        paths = (f"{site.folder}/tls.pem", f"{site.folder}/tls.key")
    argv = (sys.executable, "-m", "infra.local.lab.plain_services", service.kind, ADDRESS, str(service.port), *paths)
    return Recipe(argv, files)


def _refuse_if_taken(port: int, until: float) -> None:
    """Raises MissingPrerequisite if the port is still in use then: what a killed run left dies with it, but not in the same instant."""
    while True:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                return probe.bind((ADDRESS, port))
            except OSError as error:
                if time.monotonic() > until:
                    raise MissingPrerequisite(f"Port {port} of {ADDRESS} is in use ({error.strerror}).", "End what uses it.") from None
        time.sleep(0.05)
