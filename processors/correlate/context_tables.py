"""The global tables as the correlator asks them: the inventory record of an address, and the exploited vulnerabilities of a product."""

from __future__ import annotations

import functools
import ipaddress
import json
from collections.abc import Iterable, Iterator, Mapping

from infra.core.ports import State, read_state
from processors.correlate.rules.versions import affects
from schemas.events.base import Event
from schemas.events.context import InventoryRecord
from schemas.events.intel import IntelRecord
from schemas.events.observations import ServiceObservation
from schemas.products import product_key

INDEXED = "intel|"
"""Keys of the state that begin so name the vulnerabilities in the partition's index."""


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
    for place, _ in state.scan(f"place|{zone}"):
        address = ipaddress.ip_address(place.split("|")[2])
        if address.version == network.version and address in network:
            yield place


def index_intel(state: State, cve: str, record: Event | None) -> set[str]:
    """Keep a record of `intel` in the partition's index if it is known to be exploited. Returns the products that it concerns or did."""
    before = set(_listed(state, f"{INDEXED}{cve}"))
    after: set[str] = set()
    if isinstance(record, IntelRecord) and record.kev is True:
        after = {product_key(one.vendor, one.product) for one in record.affected}
    for product in before ^ after:
        _keep(state, f"exploited|{product}", set(_listed(state, f"exploited|{product}")) ^ {cve})
    if before != after:
        _keep(state, f"{INDEXED}{cve}", after)
    return before | after


def exploited_of(state: State, table: Mapping[str, Event], products: Iterable[str], seen: ServiceObservation) -> tuple[IntelRecord, ...]:
    """The known-exploited vulnerabilities that a service's products and versions are affected by, in the order of their names."""
    cves = sorted({cve for product in products for cve in _listed(state, f"exploited|{product}")})
    records = [table.get(cve) for cve in cves]
    return tuple(one for one in records if isinstance(one, IntelRecord) and affects(one, seen))


def _listed(state: State, key: str) -> list[str]:
    return list(read_state(key, state.get(key) or b"[]", json.loads))


def _keep(state: State, key: str, values: set[str]) -> None:
    if values:
        state.put(key, json.dumps(sorted(values)).encode())
    else:
        state.delete(key)
