"""Another scanner's hosts as this pipeline's own events: SweepResults that say port states, HostObservations that say the rest. Pure.

What is not in the file was not probed. A unit is one subnet and ten minutes of the scan: its time stands for what was seen about then.
An import never passes for a scanner's look: engine, agent and evidence begin with `import:`, no grant is named, no packet is counted,
and the recall is what the person says who imports, 0 unless he does: then silence in the file has no vote (DESIGN.md 4.4), a RST has.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from producers.imports.scanfile import RAW_SWEEPS, HostSeen, PortSeen, ScanInfo
from schemas.events.base import PortRange, Transport
from schemas.events.observations import HostObservation, HostPorts, ServiceObservation, SweepResult
from schemas.ids import content_id, subnet_of
from schemas.portset import joined, ranges, without

BUCKET_MS = 600_000
MOST_HELD = 20_000  # hosts that wait for others of their subnet
MOST_HOSTS = 256  # of a unit
MOST_WEIGHT = 400_000  # ranges and ports of a unit: some 3 MB of Avro
MOST_SERVICES, MOST_CPES = 1000, 4
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Import:
    """What is imported where: a zone, the file's name and SHA-256, and the share of open ports that its scan is said to have found."""

    zone: str
    name: str
    sha256: str
    recall: float = 0.0
    at: int | None = None

    @property
    def run_id(self) -> str:
        """One import of one file into one zone."""
        return content_id("import", self.zone, self.sha256)

    @property
    def agent_id(self) -> str:
        """Who looked: a file. No scanner is called so."""
        return f"import:{''.join(one for one in self.name if one.isprintable())[:80]}:{self.sha256[:12]}"


@dataclass(slots=True)
class _Host:
    """All that one unit knows of one host."""

    at: int
    echo: bool = False
    names: tuple[str, ...] = ()
    ports: dict[tuple[Transport, int], PortSeen] = field(default_factory=dict)
    known: dict[tuple[Transport, str], list[PortRange]] = field(default_factory=dict)


@dataclass(slots=True)
class _Unit:
    """Hosts of one subnet and ten minutes, and about how many numbers it takes to write them down."""

    hosts: dict[str, _Host] = field(default_factory=dict)
    weight: int = 0


def looks(info: ScanInfo, hosts: Iterable[HostSeen], what: Import) -> Iterator[SweepResult | HostObservation]:
    """The events of a file, unit by unit; equal content gives equal ids. Raises ValueError for a host without a time, or one beyond ours.

    Holds at most 20,000 hosts, however long the file is.
    """
    waiting: dict[tuple[str, int], _Unit] = {}
    held = units = 0
    for seen in hosts:
        at = seen.at if seen.at is not None else what.at if what.at is not None else info.started
        if at is None:
            raise ValueError(f"{seen.address} has no time in it: say with --at when the scan was")
        if seen.status == "down" or seen.timed_out:
            continue  # its ports were not probed, or not all of them
        key = (subnet_of(seen.address), at // BUCKET_MS)
        unit = waiting.setdefault(key, _Unit())
        held += seen.address not in unit.hosts
        unit.weight += len(seen.ports) + sum(len(rest.ports) for rest in seen.rest) + 1
        _take(unit.hosts.setdefault(seen.address, _Host(at)), seen, at, info)
        full = len(unit.hosts) >= MOST_HOSTS or unit.weight > MOST_WEIGHT
        if full or held > MOST_HELD:
            subnet, _ = ready = key if full else next(iter(waiting))
            done = waiting.pop(ready).hosts
            held -= len(done)
            yield from _events(info, subnet, done, what, units)
            units += 1
    for (subnet, _), last in waiting.items():
        yield from _events(info, subnet, last.hosts, what, units)
        units += 1


def _take(host: _Host, seen: HostSeen, at: int, info: ScanInfo) -> None:
    host.at = max(host.at, at)
    host.echo = host.echo or seen.reason == "echo-reply"
    host.names = seen.names or host.names
    found: dict[tuple[Transport, str], set[int]] = {}
    for port in seen.ports:
        said = verdict(port.state, port.reason, port.transport) if believed(info, port.transport) else None
        if said is None:
            continue
        if said == "answered":
            before = host.ports.get((port.transport, port.port))
            host.ports[port.transport, port.port] = port if before is None or before.guessed else before
        else:
            found.setdefault((port.transport, said), set()).add(port.port)
    spans = [(place, ranges(some)) for place, some in found.items()]
    for rest in seen.rest:
        verdicts = {verdict(state, reason, rest.transport) for state in rest.states for reason in rest.reasons or ("",)}
        said = verdicts.pop()
        if not verdicts and said is not None and said != "answered" and believed(info, rest.transport):
            spans.append(((rest.transport, said), rest.ports))
    for place, span in spans:
        host.known.setdefault(place, []).extend(span)


def believed(info: ScanInfo, transport: Transport) -> bool:
    """Whether the scan was of a kind whose states mean what they say."""
    return transport not in info.scanned or info.scanned[transport].kind in RAW_SWEEPS


def verdict(state: str, reason: str, transport: Transport) -> str | None:
    """A state in nmap's words as ours: answered, closed, silent or unreachable; None for one that says nothing of the port."""
    if state == "open":
        return "answered"
    if state == "closed":
        return "closed"
    if state == "filtered" or (state == "open|filtered" and transport is Transport.UDP):
        return "silent" if reason == "no-response" else "unreachable"
    return None


def _events(info: ScanInfo, subnet: str, hosts: dict[str, _Host], what: Import, number: int) -> Iterator[SweepResult | HostObservation]:
    unit_id = content_id("import", what.zone, what.sha256, repr(what.recall), subnet, number)
    for transport in Transport:
        result = _sweep(info, transport, subnet, hosts, what, unit_id)
        if result is not None:
            yield result
    for address, host in sorted(hosts.items()):
        services = tuple(_service(info, host.ports[key]) for key in sorted(host.ports)[:MOST_SERVICES])
        if services:
            yield HostObservation(
                observation_id=content_id("observation", unit_id, address),
                unit_id=unit_id,
                run_id=what.run_id,
                zone=what.zone,
                subnet=subnet,
                address=address,
                grant_id="",
                agent_id=what.agent_id,
                names=host.names,
                services=services,
                observed_at=EPOCH + timedelta(milliseconds=host.at),
            )


def _sweep(info: ScanInfo, transport: Transport, subnet: str, hosts: dict[str, _Host], what: Import, unit_id: str) -> SweepResult | None:
    """What a unit says of one transport's ports; None where that is nothing."""
    answered = {address: tuple(port for kind, port in sorted(host.ports) if kind is transport) for address, host in hosts.items()}
    named = {
        address: [span for (kind, _), some in host.known.items() if kind is transport for span in some] for address, host in hosts.items()
    }
    echoes = {address for address, host in hosts.items() if host.echo and transport is Transport.TCP}
    told = [address for address in sorted(hosts) if answered[address] or named[address] or address in echoes]
    if not told:
        return None
    known = {address: joined((*ranges(answered[address]), *named[address])) for address in told}
    scanned = info.scanned.get(transport)
    span = joined((*(scanned.ports if scanned else ()), *(one for address in told for one in known[address])))
    found = []
    for address in told:
        kinds = {kind: hosts[address].known.get((transport, kind), ()) for kind in ("closed", "unreachable")}
        # A port that masscan saw open and closed in ten minutes answered.
        closed, unreachable = (without(kinds[kind], ranges(answered[address])) for kind in ("closed", "unreachable"))
        missed = without(span, known[address])
        echo = address in echoes
        if answered[address] or closed or unreachable or missed or echo:
            found.append(
                HostPorts(address=address, answered=answered[address], closed=closed, unreachable=unreachable, not_probed=missed, echo=echo)
            )
    whole = scanned is not None and not any(one.not_probed for one in found)
    times = [hosts[address].at for address in told]
    return SweepResult(
        unit_id=unit_id,
        run_id=what.run_id,
        zone=what.zone,
        subnet=subnet,
        grant_id="",
        agent_id=what.agent_id,
        engine=f"import:{info.scanner}",
        transport=transport,
        probed=tuple(told),
        ports=span,
        hosts=tuple(found),
        complete=whole,
        stopped_reason="" if whole else "the file does not say of every port what was found",
        packets_sent=0,
        loss=0.0,
        recall=what.recall,
        recall_samples=0,
        started_at=EPOCH + timedelta(milliseconds=min(times)),
        finished_at=EPOCH + timedelta(milliseconds=max(times)),
    )


def _service(info: ScanInfo, port: PortSeen) -> ServiceObservation:
    """What the file's scanner found behind a port. What nmap only guessed from the port's number is left out."""
    sure = not port.guessed
    return ServiceObservation(
        port=port.port,
        transport=port.transport,
        service=port.service if sure else "",
        product=port.product if sure else "",
        version=port.version if sure else "",
        extra=port.extra if sure else "",
        cpes=port.cpes[:MOST_CPES] if sure else (),
        banner=(port.banner or port.scripts.get("banner", ""))[:512],
        evidence=(f"import:{info.scanner}",),
    )
