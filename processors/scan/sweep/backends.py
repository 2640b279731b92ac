"""Which way out a sweep takes: the best that machine, interface and privilege allow, AF_XDP → TX ring → sendmmsg → raw IP socket.

The first two are for speed on a single core, and pass by whoever captures on this machine. With two cores sendmmsg is the fastest, and a
scanner whose ceiling is below `FAST` needs no speed: both stay where their operator can watch them. Where none is allowed, ports are
swept by plain connects (`connect.py`). `driftline doctor` tells which it is and why.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import dataclass

from infra.core.settings import ScannerSettings
from processors.scan.sweep.neighbours import Interface, gateway_mac, interface_of
from processors.scan.sweep.routes import Route
from processors.scan.sweep.transmit import PacketSender, RawSender, Sender, two_cores
from processors.scan.sweep.txring import RingSender
from processors.scan.sweep.xdp import XdpSender

FAST = 50_000  # packets a second
ETHERNET: dict[str, Callable[[int], Sender]] = {"af_xdp": XdpSender, "tx_ring": RingSender, "sendmmsg": PacketSender}


@dataclass(frozen=True, slots=True)
class WayOut:
    """An open sender. `interface` is None where its rows begin at the IP header; `next_hop` where each neighbour has his own."""

    sender: Sender
    interface: Interface | None = None
    next_hop: bytes | None = None


async def way_out(route: Route, version: int, settings: ScannerSettings) -> WayOut:
    """Open the way out for a route, as the settings say or the best that opens. Raises OSError where not even a raw socket does."""
    wanted = wanted_of(settings)
    if wanted != "raw" and not route.local and (interface := interface_of(route.interface)) is not None:
        next_hop = await gateway_mac(route)
        if next_hop is not None or route.on_link:
            sender = open_first(route.interface, wanted)[0]
            if sender is not None:
                return WayOut(sender, interface, next_hop)
    return WayOut(RawSender(version))


def wanted_of(settings: ScannerSettings) -> str:
    """The way out that the settings name; or sendmmsg where nothing else is faster or needed, else `auto`: the first that opens."""
    if settings.backend == "auto" and (settings.packets_per_second < FAST or two_cores()):
        return "sendmmsg"
    return settings.backend


def open_first(interface: int, wanted: str = "auto") -> tuple[Sender | None, dict[str, str]]:
    """The first Ethernet sender that opens on an interface, and what the kernel has against those before it."""
    refused: dict[str, str] = {}
    for name, opener in ETHERNET.items():
        if wanted in ("auto", name):
            try:
                return opener(interface), refused
            except OSError as error:
                refused[name] = error.strerror or str(error)
    return None, refused


def explain(settings: ScannerSettings) -> dict[str, list[str]]:
    """The ways out that there are, each with the reason, and the interfaces that have it; for `driftline doctor`. Raises OSError."""
    found: dict[str, list[str]] = {}
    for number, name in socket.if_nameindex():
        if interface_of(number) is None:
            found.setdefault("raw, no Ethernet", []).append(name)
            continue
        sender, refused = open_first(number, wanted_of(settings))
        why = "; ".join(f"{one}: {reason}" for one, reason in refused.items())
        found.setdefault(f"{sender.name if sender else 'raw'}{f', {why}' if why else ''}", []).append(name)
        if sender is not None:
            sender.close()
    return found
