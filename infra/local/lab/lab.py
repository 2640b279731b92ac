"""The lab: a router, seven hosts and nine real services on this machine, for the demo and the tests."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from infra.core.errors import MissingPrerequisite
from infra.local.lab.certificates import Certificate, certificate, host_key
from infra.local.lab.network import FOLDER, Namespaces, end, remove_fence, remove_interface, running, trial
from infra.local.lab.plan import BEFORE, CERTIFICATES, Plan, Service, after
from infra.local.lab.recipes import RECIPES, Recipe, Site
from infra.local.lab.services import NOBODY, Daemons, Place
from infra.local.lab.truth import ServiceTruth, truth, version
from infra.local.packages import LAB, missing

log = structlog.get_logger()


class Lab:
    """`up()`, look at it, `change()`, look again, `down()`; or `with Lab(…) as lab:`.

    Keys and certificates stay in `data_dir/lab`, so that a second run shows the same machines; all else is gone after `down()`,
    and after a `kill -9` of this process too. Labs of different `number` (0 to 255) may run at once.
    """

    def __init__(self, data_dir: Path, prefix: str = "dl-", number: int = 1) -> None:
        self.plan = Plan(prefix, number)
        self._folder = data_dir / "lab"
        self._services: tuple[Service, ...] = BEFORE
        self._namespaces: Namespaces | None = None
        self._daemons: Daemons | None = None

    @staticmethod
    def prerequisites() -> list[str]:
        """What stands in the lab's way here, in sentences; empty when nothing does."""
        if os.geteuid() != 0:
            return ["The lab needs root, to make network namespaces."]
        problems = []
        if absent := missing(LAB):
            problems.append(f"These Debian packages are missing: {' '.join(absent)}.")
        if "iproute2" not in absent and (refusal := trial()):
            problems.append(f"The kernel refuses network namespaces here: {refusal}.")
        return problems

    def up(self) -> None:
        """Make the network and start every service; returns when all listen. What a killed run left is removed first."""
        if problems := self.prerequisites():
            raise MissingPrerequisite(" ".join(problems), "Install what is missing as root, or run the demo on loopback.")
        self._refuse_if_running()
        self.clean()
        self._services = BEFORE
        try:
            self._namespaces = Namespaces(self.plan)
            self._daemons = Daemons(Place(self._namespaces.folder, self._command, NOBODY))
            self._daemons.start(self._recipes(self._services))
        except BaseException:
            self.down()
            raise
        log.info("lab_up", interface=self.interface, networks=self.networks(), services=len(self._services))

    def change(self) -> None:
        """Open one service, close one, swap a certificate (`plan.after`). A second call does nothing."""
        if self._daemons is None:
            raise RuntimeError("the lab is not up")
        wanted = after(BEFORE)
        self._daemons.stop(one.name for one in self._services if one not in wanted)
        self._daemons.start(self._recipes(one for one in wanted if one not in self._services))
        self._services = wanted
        log.info("lab_changed", interface=self.interface)

    def hide(self, port: int) -> tuple[str, int]:
        """Open a second Redis at this port of the cache, which `truth` does not tell of; where it is."""
        if self._daemons is None:
            raise RuntimeError("the lab is not up")
        self._daemons.start(self._recipes((Service("cache", "redis", port),)))
        return self.plan.addresses("cache")[0], port

    def down(self) -> None:
        """Stop everything and remove the network. May be called at any time, any number of times."""
        if self._namespaces is not None:
            self._namespaces.close()  # the kernel ends every daemon
            self._namespaces = None
            log.info("lab_down", interface=self.interface)
        if self._daemons is not None:
            self._daemons.stop_all()
            self._daemons = None

    def clean(self) -> None:
        """Remove this lab, whichever process made it. Nothing happens if there is none."""
        if holder := running(self.interface):
            end(holder)
        remove_interface(self.interface)
        remove_fence(self.plan)

    def _refuse_if_running(self) -> None:
        holder = running(self.interface)
        if holder and holder.ppid() not in (1, os.getpid()):
            message = f"A lab runs on {self.interface} already, started by process {holder.ppid()}."
            raise MissingPrerequisite(message, "Stop that one, or run `make lab-down`.")

    @property
    def interface(self) -> str:
        """This machine's end of the link to the lab: every packet between the two passes it."""
        return self.plan.interface

    def networks(self) -> list[str]:
        """What a grant for the lab has to cover."""
        return [self.plan.network4, self.plan.network6]

    def targets(self) -> list[str]:
        """What a campaign for the lab should name: all hosts, one address that no one has, and little else. IPv6 one by one."""
        six = [self.plan.address6(host.number) for host in self.plan.hosts if host.ipv6]
        return [f"{self.plan.address4(0)}/28", *six]

    def hosts(self) -> list[str]:
        """Every address that answers (the router's and that of the host without a service too)."""
        inside = [address for host in self.plan.hosts for address in self.plan.addresses(host.name)]
        return [self.plan.address4(1), *inside]

    def truth(self) -> list[ServiceTruth]:
        """What a correct scan finds now."""
        names = {one.certificate for one in self._services if one.certificate}
        addresses = {host.name: self.plan.addresses(host.name) for host in self.plan.hosts}
        return truth(self._services, addresses, {name: self._certificate(name) for name in names})

    def _certificate(self, name: str) -> Certificate:
        return certificate(self._folder / "keys", CERTIFICATES[name], datetime.now(UTC))

    def _recipes(self, services: Iterable[Service]) -> list[tuple[Service, Recipe]]:
        made = []
        for service in services:
            site = Site(
                addresses=self.plan.addresses(service.host),
                folder=f"{FOLDER}/{service.name}",
                certificate=self._certificate(service.certificate) if service.certificate else None,
                host_key=host_key(self._folder / "keys", service.host) if service.kind == "ssh" else "",
                ssh_version=_numbers(version("ssh")) if service.kind == "ssh" else (),
            )
            made.append((service, RECIPES[service.kind](service, site)))
        return made

    def _command(self, service: Service, recipe: Recipe) -> list[str]:
        assert self._namespaces is not None  # noqa: S101
        rights = () if recipe.as_root else ("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--no-new-privs")
        return self._namespaces.at_host(service.host, *rights, *recipe.argv)

    def __enter__(self) -> Self:
        self.up()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.down()


def _numbers(text: str) -> tuple[int, ...]:
    """(9, 2) of `9.2p1 Debian 2+deb12u10`."""
    return tuple(int(part) for part in text.partition("p")[0].split("."))
