"""The contract of probes, and the table of them.

A probe looks closer at a port that answered (`ServiceProbe`) or at a host that has such ports (`HostProbe`). A package outside this
tree adds one with an entry point of the group `driftline.probes`; the whole of it may be:

    from processors.scan.probe import Evidence, Service, ServiceProbe, Traits

    class Finger(ServiceProbe):
        traits = Traits(name="finger", cost=6, yields=("service", "banner"))

        async def look(self, service: Service) -> Evidence | None:
            if service.port != 79 or service.known.service:
                return None                                  # not for this probe: nothing is sent
            async with service.open() as wire:               # asks the gate for `cost` packets, then connects
                await wire.send(b"\\r\\n")
                answer = await wire.read(until=b"\\n")
            return Evidence(service="finger", banner=answer.decode("utf-8", "replace")) if answer else None

    # pyproject.toml:  [project.entry-points."driftline.probes"]  finger = "my_package:Finger"

What the caller does for every probe: it passes the gate, cleans and caps all text, takes OSError and TimeoutError as "found nothing",
logs any other exception and goes on, and merges what several probes say (what is known first stays). A probe must not open sockets or
start programs by other ways than `service.open` and `host.run`, must read nothing unbounded, and must find the same at the same
host each time: no clocks, nonces or counters in what it yields.
"""

from __future__ import annotations

import importlib
import shutil
import socket
import ssl
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import cache, partial
from importlib.metadata import entry_points

import structlog

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.probing.evidence import Evidence as Evidence  # part of the contract: others import it from here
from processors.scan.probing.tools import places_of, program_path, run_tool
from processors.scan.probing.wire import Wire, dial
from processors.scan.scope.gate import OutOfScope
from schemas.events.observations import Hop
from schemas.scope import Ask

ENTRY_POINTS = "driftline.probes"
BUILT_IN = (
    "banner",
    "tls",
    "http",
    "ftp_anonymous",
    "redis",
    "memcached",
    "mqtt",
    "nmap",
    "hping3",
    "traceroute",
    "tcptraceroute",
    "ping",
)  # in the order in which they look: the cheap first, each sees what those before it found

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Traits:
    """What a probe is.

    `cost`: packets at most for one `open`, or for each ask of a `run`. `needs`: names of programs, or `raw` for CAP_NET_RAW.
    `yields`: the fields of Evidence that it may fill, or `path`, or `alive`.
    """

    name: str
    cost: int
    yields: tuple[str, ...]
    intrusive: bool = False
    needs: tuple[str, ...] = ()
    by_default: bool = True


class LeftOpen:
    """A conversation in TLS with one port that a probe left open for the next one: a handshake is most of what a look at HTTPS costs."""

    def __init__(self) -> None:
        self._wire: Wire | None = None
        self._ends = AsyncExitStack()

    def __bool__(self) -> bool:
        """Whether there is one."""
        return self._wire is not None

    def put(self, wire: Wire, stack: AsyncExitStack) -> None:
        """Keep a conversation, and what is to be done at its end."""
        self._wire, self._ends = wire, stack.pop_all()

    def take(self, stack: AsyncExitStack) -> Wire | None:
        """The conversation, which ends with `stack` from now on; None if there is none."""
        wire, self._wire = self._wire, None
        stack.push_async_exit(self._ends.pop_all())
        return wire

    async def end(self) -> None:
        """End what nobody took. Raises Halted."""
        self._wire = None
        with suppress(OutOfScope):  # as any probe's, whose grant was revoked meanwhile
            await self._ends.aclose()


@dataclass(frozen=True, slots=True)
class Service:
    """A port that answered, as a service probe sees it. `name` is the pinned name for SNI and Host, '' without one."""

    address: str
    port: int
    name: str
    known: Evidence
    meter: Meter
    cost: int
    left: LeftOpen = field(default_factory=LeftOpen)

    @property
    def mute(self) -> bool:
        """Whether it has said nothing that earlier probes understood, neither in clear text nor in TLS."""
        return not (self.known.service or self.known.banner or self.known.tls)

    @asynccontextmanager
    async def open(self, tls: ssl.SSLContext | None = None, *, leave: bool = False) -> AsyncIterator[Wire]:
        """A conversation with the port, paid for at the gate: for TLS the one that an earlier probe left, if it did.

        `leave` leaves it open for a later probe. Entering it raises OSError, OutOfScope or Halted.
        """
        async with AsyncExitStack() as stack:
            wire = self.left.take(stack) if tls else None
            if wire:
                await wire.go_on(self.cost)
            else:
                ask = Ask("tcp", self.port)
                admit, watching = partial(self.meter.admit, self.address, ask), partial(self.meter.talking, self.address, ask)
                wire = await stack.enter_async_context(dial(self.address, self.port, admit, self.cost, tls, self.name, watching))
            yield wire
            if leave:
                self.left.put(wire, stack)


@dataclass(frozen=True, slots=True)
class HostEvidence:
    """What a host probe found: more about ports, and the path."""

    services: Mapping[int, Evidence] = field(default_factory=dict)
    path: tuple[Hop, ...] | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """A host with answered ports, as a host probe sees it. `path` is what an earlier probe found."""

    address: str
    known: Mapping[int, Evidence]
    path: tuple[Hop, ...] | None
    settings: ScannerSettings
    meter: Meter
    cost: int

    async def run(self, arguments: Sequence[str], asks: Sequence[Ask], places: int, seconds: float) -> str:
        """Run a program that sends at most `cost` packets for each ask, once the gate has admitted them all. '' if it took too long.

        Raises OutOfScope before anything is sent if one ask is refused, and ends the program if one is refused later.
        """

        def check() -> None:
            for ask in asks:
                self.meter.check(self.address, ask)

        async with places_of(arguments[0], places):
            check()
            for ask in asks:
                await self.meter.admit(self.address, ask, self.cost)
            return (await run_tool(arguments, seconds, check)).decode("utf-8", "replace")


class ServiceProbe(ABC):
    """Looks at one answered port."""

    traits: Traits

    @abstractmethod
    async def look(self, service: Service) -> Evidence | None:
        """What was found, or None."""


class HostProbe(ABC):
    """Looks at one host that has answered ports, after the service probes."""

    traits: Traits

    @abstractmethod
    async def look(self, host: Host) -> HostEvidence | None:
        """What was found, or None."""


class AddressProbe(ABC):
    """Asks all addresses of a unit at once whether they are there, before the sweep. An answer is a sign of life, no service."""

    traits: Traits

    @abstractmethod
    async def look(self, addresses: Sequence[str], meter: Meter, settings: ScannerSettings) -> Collection[str]:
        """The addresses that answered. Raises Halted."""


Probe = ServiceProbe | HostProbe | AddressProbe


@cache
def load_probes() -> dict[str, Probe]:
    """All probes by name, built-in ones first. One from outside that is broken, or takes a built-in's name, is logged and left out."""
    probes: dict[str, Probe] = {}
    for module in BUILT_IN:
        probe: Probe = importlib.import_module(f"processors.scan.probes.{module}").PROBE
        probes[probe.traits.name] = probe
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda one: one.name):
        try:
            made = point.load()()
            if not isinstance(made, Probe) or made.traits.name in probes:
                raise TypeError("it is no probe, or its name is taken")
            probes[made.traits.name] = made
        except Exception as error:  # noqa: BLE001  another package's code: whatever it does, the scanner goes on without it
            log.error("probe_not_loaded", entry_point=point.value, error=str(error))
    return probes


def lacks(traits: Traits) -> tuple[str, ...]:
    """What this machine lacks for a probe."""
    return tuple(need for need in traits.needs if not (raw_sockets() if need == "raw" else program(need)))


def program(name: str) -> str | None:
    """Where a program is; /usr/sbin counts even if PATH lacks it."""
    return shutil.which(name, path=program_path())


def raw_sockets() -> bool:
    """Whether this process may open raw sockets (root or CAP_NET_RAW)."""
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
    except OSError:
        return False
    return True


def choose_probes(probes: Mapping[str, Probe], wanted: Sequence[str], intrusive: bool = False) -> list[Probe]:
    """The probes for a unit, in table order: those it names, else all default ones; those that can't run here are left out.

    Intrusive ones run only if `intrusive`, which is the grant's leave for them.
    """
    for name in wanted:
        if name not in probes:
            log.warning("unknown_probe", probe=name)
    chosen = [probe for name, probe in probes.items() if (name in wanted if wanted else probe.traits.by_default)]
    for probe in chosen:
        if (probe.traits.intrusive and not intrusive) or lacks(probe.traits):
            log.info("probe_left_out", probe=probe.traits.name, intrusive=probe.traits.intrusive, lacks=lacks(probe.traits))
    return [probe for probe in chosen if (intrusive or not probe.traits.intrusive) and not lacks(probe.traits)]
