"""The inventory as the correlator asks it: the record of an address, and the places that a record concerns."""

from __future__ import annotations

import functools
import ipaddress
from collections.abc import Iterator, Mapping

from infra.core.ports import State
from processors.correlate.memory import load_host, place_key
from schemas.events.base import Event, Transport
from schemas.events.context import InventoryRecord


@functools.lru_cache(maxsize=8192)
def networks_over(address: str) -> tuple[str, ...]:
    """The address and every network that holds it as canonical text, longest first."""
    parsed = ipaddress.ip_address(address)
    return address, *(str(ipaddress.ip_network((parsed, bits), strict=False)) for bits in range(parsed.max_prefixlen, -1, -1))


def inventory_of(table: Mapping[str, Event], zone: str, address: str) -> InventoryRecord | None:
    """The record of the longest network that holds the address. Keys are `zone|network` or `zone|address`, or the network alone."""
    if not table:
        return None
    for network in networks_over(address):
        for key in (f"{zone}|{network}", network):
            record = table.get(key)
            if isinstance(record, InventoryRecord) and record.zone == zone:
                return record
    return None


def places_in(state: State, key: str, record: Event | None) -> Iterator[str]:
    """Place keys of this partition that a record of `inventory`, or the tombstone of its key, concerns."""
    text = record.network if isinstance(record, InventoryRecord) else key.rpartition("|")[2]
    try:
        network = ipaddress.ip_network(text, strict=False)
    except ValueError:
        return
    zone = f"{record.zone}|" if isinstance(record, InventoryRecord) else f"{key.rpartition('|')[0]}|".lstrip("|")
    for place, _ in state.scan(f"place|{zone}{begins(network) if zone else ''}"):
        address = ipaddress.ip_address(place.split("|")[2])
        if address.version == network.version and address in network:
            yield place


def begins(network: ipaddress.IPv4Network | ipaddress.IPv6Network) -> str:
    """How the text of each of its addresses begins, and of few others: a snapshot may bring 100,000 records, each read for by itself."""
    if network.prefixlen == network.max_prefixlen:
        return f"{network.network_address}|"
    octets = network.prefixlen // 8 if network.version == 4 else 0
    return "".join(f"{octet}." for octet in str(network.network_address).split(".")[:octets])


def expected_and_gone(state: State, record: Event | None) -> Iterator[tuple[str, str, Transport, int]]:
    """Zone, address, transport and port of the services that a record of `inventory` expects and that closed and were forgotten."""
    if not isinstance(record, InventoryRecord) or not record.expected:
        return
    network = ipaddress.ip_network(record.network, strict=False)
    for key, _ in state.scan(f"host|{record.zone}|"):
        address = ipaddress.ip_address(key.split("|")[2])
        if address.version != network.version or address not in network:
            continue
        host = load_host(state, record.zone, str(address))
        for name in host.gone if host else ():
            transport, _, port = name.partition("/")
            kept = place_key(record.zone, str(address), transport, int(port))
            if name in record.expected and state.get(kept) is None:
                yield record.zone, str(address), Transport(transport), int(port)
