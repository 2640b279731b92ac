"""The closer look at what answered: all probes on all hosts of a unit, merged into one HostObservation a host."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import TypeVar

import structlog

from infra.core.settings import ScannerSettings
from processors.scan.deception import looks_deceptive, looks_mute
from processors.scan.meter import Meter
from processors.scan.open_files import raised_open_files, socket_bound
from processors.scan.probe import Host, HostProbe, LeftOpen, Probe, Service, ServiceProbe
from processors.scan.probing.evidence import Evidence, merge, observation
from processors.scan.probing.fitting import MOST_NAMES, fitted
from processors.scan.probing.paths import better
from processors.scan.scope.gate import Halted, OutOfScope
from processors.scan.workers import share_out
from schemas.events.base import Transport
from schemas.events.observations import Hop, HostObservation
from schemas.events.targets import WorkUnit
from schemas.ids import content_id

SOCKETS = 2  # of one port at once: a conversation that was left open, and another
PROBE_SECONDS = 120.0  # the waits for the budget included

TALKATIVE = {"banner", "http", "tls"}  # without these, that a port says nothing says nothing

Found = TypeVar("Found")
log = structlog.get_logger()


@dataclass(slots=True)
class Look:
    """The service stage of one unit. Only hosts whose look was finished are told of: half a look would read as a change."""

    unit: WorkUnit
    agent_id: str
    settings: ScannerSettings
    attempt: int
    now: Callable[[], datetime]
    meter: Meter
    done: dict[str, HostObservation] = field(default_factory=dict)
    deceptive: dict[str, str] = field(default_factory=dict)

    async def at_all(self, answered: Mapping[str, Sequence[int]], probes: Sequence[Probe]) -> None:
        """Look at these ports of these hosts. Raises Halted."""
        sockets = socket_bound(raised_open_files(), self.settings.parallel_units)
        hosts = min(self.settings.hosts_at_once, max(1, sockets // (SOCKETS * self.settings.ports_at_once)), len(answered))
        await share_out(answered.items(), lambda item: self.at_host(item[0], item[1], probes), hosts)

    async def at_host(self, address: str, ports: Sequence[int], probes: Sequence[Probe]) -> None:
        """Run the service probes on each port, then the host probes, and keep the observation. Raises Halted.

        A host that shows the same face on many ports, or none, gets no more packets, and nothing is told of it but why.
        """
        asked_enough = {probe.traits.name for probe in probes} >= TALKATIVE
        names = tuple(sorted(pinned.name for pinned in self.unit.names if pinned.address == address))
        known: dict[int, Evidence] = {}
        path: tuple[Hop, ...] | None = None
        deception: str | None = None

        async def at_port(port: int) -> None:
            nonlocal deception
            if deception:
                return
            evidence, left = Evidence(), LeftOpen()
            try:
                for probe in probes:
                    if isinstance(probe, ServiceProbe):
                        service = Service(address, port, names[0] if names else "", evidence, self.meter, probe.traits.cost, left)
                        found = await self.ask(probe, address, port, probe.look(service))
                        evidence = merge(evidence, found, probe.traits.name) if found else evidence
            finally:
                await left.end()
            known[port] = evidence
            deception = deception or looks_deceptive({seen: one.banner for seen, one in known.items()})
            if asked_enough:
                deception = deception or looks_mute(len(known), sum(one != Evidence() for one in known.values()))

        await share_out(ports, at_port, min(self.settings.ports_at_once, len(ports)))
        if deception:
            log.warning("host_looks_deceptive", address=address, reason=deception, looked_at=len(known), answered=len(ports))
            self.deceptive[address] = deception
            return
        for probe in probes:
            if isinstance(probe, HostProbe):
                told = await self.ask(
                    probe, address, 0, probe.look(Host(address, known, path, self.settings, self.meter, probe.traits.cost))
                )
                if told:
                    path = better(path, told.path, address)
                    known |= {port: merge(known[port], one, probe.traits.name) for port, one in told.services.items() if port in known}
        self.done[address] = self.observe(address, names, known, path)

    async def ask(self, probe: Probe, address: str, port: int, look: Coroutine[None, None, Found | None]) -> Found | None:
        """A probe's word, or None: whatever a host or another package's code does, the unit goes on. Raises Halted."""
        try:
            async with asyncio.timeout(PROBE_SECONDS):
                return await look
        except Halted:
            raise
        except OutOfScope as refusal:
            log.debug("probe_refused", probe=probe.traits.name, address=address, port=port, reason=refusal.reason)
        except (OSError, TimeoutError) as error:
            log.debug("probe_found_nothing", probe=probe.traits.name, address=address, port=port, error=str(error))
        except Exception:
            log.exception("probe_failed", probe=probe.traits.name, address=address, port=port)
        return None

    def hear(self, heard: Mapping[tuple[str, int], Evidence]) -> None:
        """Keep what UDP services said, beside what is known of their hosts."""
        for address in dict.fromkeys(address for address, _ in heard):
            names = tuple(sorted(pinned.name for pinned in self.unit.names if pinned.address == address))
            host = self.done.get(address) or self.observe(address, names, {}, None)
            said = [observation(port, one, Transport.UDP) for (where, port), one in sorted(heard.items()) if where == address]
            self.done[address] = host.model_copy(update={"services": fitted((*host.services, *said))})

    def observe(self, address: str, names: tuple[str, ...], known: Mapping[int, Evidence], path: tuple[Hop, ...] | None) -> HostObservation:
        """The event of one host."""
        return HostObservation(
            observation_id=content_id("observation", self.unit.unit_id, address),
            unit_id=self.unit.unit_id,
            run_id=self.unit.run_id,
            campaign_id=self.unit.campaign_id,
            zone=self.unit.zone,
            subnet=self.unit.subnet,
            address=address,
            grant_id=self.unit.grant_id,
            agent_id=self.agent_id,
            attempt=self.attempt,
            names=names[:MOST_NAMES],
            services=fitted(tuple(observation(port, known[port]) for port in sorted(known))),
            path=path,
            observed_at=self.now(),
        )

    def observations(self) -> tuple[HostObservation, ...]:
        """The finished hosts, in the unit's order."""
        return tuple(self.done[address] for address in dict.fromkeys(self.unit.addresses) if address in self.done)
