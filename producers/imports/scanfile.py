"""What a scanner's file says, whoever wrote it: about the scan, about each host, and whether it came to its end. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from schemas.events.base import PortRange, Transport

Ranges = tuple[PortRange, ...]
RAW_SWEEPS = frozenset({"syn", "connect", "udp"})
"""nmap's kinds of scan of which `open` means that the port answered. Of the others (ack, fin, idle, …) states are guesses."""


@dataclass(frozen=True, slots=True)
class Scanned:
    """Which ports of one transport a scan was told to look at, and how (nmap's `scaninfo`)."""

    kind: str
    ports: Ranges


@dataclass(frozen=True, slots=True)
class ScanInfo:
    """The head of a file. `scanned` is empty where the file does not say what was scanned, only what answered (masscan, naabu).

    `started` is in ms since 1970; None where the file does not say.
    """

    scanner: str
    version: str = ""
    args: str = ""
    started: int | None = None
    scanned: Mapping[Transport, Scanned] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PortSeen:
    """One port that the file names, with the state and its reason in nmap's words. `guessed`: the service is only the port's usual one."""

    port: int
    transport: Transport
    state: str
    reason: str = ""
    service: str = ""
    product: str = ""
    version: str = ""
    extra: str = ""
    cpes: tuple[str, ...] = ()
    banner: str = ""
    guessed: bool = True
    scripts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rest:
    """Ports that are not named one by one (nmap's `extraports`): each is in one of these states, for one of these reasons."""

    transport: Transport
    ports: Ranges
    states: frozenset[str]
    reasons: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class HostSeen:
    """What the file says of one host, or a part of it (masscan has a record for each port). `at` is in ms since 1970.

    `status` is `up`, `down` or '' (not said). `names` are those that DNS gave for the address, not those that a person typed.
    """

    address: str
    at: int | None
    status: str = ""
    reason: str = ""
    timed_out: bool = False
    names: tuple[str, ...] = ()
    ports: tuple[PortSeen, ...] = ()
    rest: tuple[Rest, ...] = ()
    systems: tuple[str, ...] = ()
    scripts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Finish:
    """The end of a scan: whether it came to it, and how many hosts it was told to look at (None: not said)."""

    success: bool
    total: int | None = None


Item = ScanInfo | HostSeen | Finish
"""A file is one ScanInfo, then hosts, then a Finish if the scan came to an end."""
