"""What the kernel knows of the way to an address. Asks the kernel each time, since namespaces and routes come and go."""

from __future__ import annotations

import ipaddress
import socket

import psutil

FAMILIES = (socket.AF_INET, socket.AF_INET6)


def family_of(address: str) -> socket.AddressFamily:
    """AF_INET or AF_INET6."""
    return socket.AF_INET6 if ":" in address else socket.AF_INET


def source_of(address: str) -> str:
    """The source address that the kernel would use (connecting a UDP socket sends nothing). Raises OSError without a route."""
    with socket.socket(family_of(address), socket.SOCK_DGRAM) as probe:
        probe.connect((address, 9))
        return str(probe.getsockname()[0])


def is_own(address: str) -> bool:
    """Whether the address is loopback or this machine's own."""
    if ipaddress.ip_address(address).is_loopback:
        return True
    try:
        return ipaddress.ip_address(source_of(address)) == ipaddress.ip_address(address)
    except OSError:
        return False


def only_loopback() -> bool:
    """Whether no interface but loopback has an address."""
    own = [entry.address.partition("%")[0] for entries in psutil.net_if_addrs().values() for entry in entries if entry.family in FAMILIES]
    return all(ipaddress.ip_address(address).is_loopback for address in own)


def on_link(address: str) -> bool:
    """Whether the address is a neighbour: then "host unreachable" is our own kernel's word for its silence to ARP or ND."""
    parsed = ipaddress.ip_address(address)
    for entries in psutil.net_if_addrs().values():
        for entry in entries:
            if entry.family == family_of(address) and entry.netmask:
                own, mask = entry.address.partition("%")[0], ipaddress.ip_address(entry.netmask)
                if parsed in ipaddress.ip_network((own, int(mask).bit_count()), strict=False):
                    return True
    return False
