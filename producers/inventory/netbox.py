"""NetBox's API lists: devices, virtual machines, IP addresses, prefixes and services (https://netboxlabs.com/docs/netbox/, REST API)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import BaseModel, Field

from producers.inventory.members import Member, Snapshot, address_text, labelled, network_text, together

LIVE = frozenset({"active", "dhcp", "slaac", "staged"})
"""Statuses of what is on the network; `container` prefixes are known, but are no targets. Others are planned or gone."""


class Named(BaseModel):
    """A tenant, role, site or tag."""

    name: str = ""


class Value(BaseModel):
    """A choice."""

    value: str | int


class Address(BaseModel):
    """An address with its length."""

    address: str


class Reference(BaseModel):
    """Another object."""

    id: int


class Entry(BaseModel):
    """One object of any of the lists: what it has tells what it is."""

    id: int
    address: str | None = None
    prefix: str | None = None
    primary_ip: Address | None = None
    primary_ip4: Address | None = None
    primary_ip6: Address | None = None
    status: Value | None = None
    tenant: Named | None = None
    role: Named | Value | None = None
    site: Named | None = None
    tags: list[Named] = Field(default_factory=list)
    custom_fields: dict[str, Any] = Field(default_factory=dict)
    device_type: dict[str, Any] | None = None
    device: Reference | None = None
    virtual_machine: Reference | None = None
    ports: list[int] | None = None
    protocol: Value | None = None
    ipaddresses: list[Address] = Field(default_factory=list)


class Listing(BaseModel):
    """One page of a list."""

    count: int
    next: str | None = None
    results: list[Entry]


def read_netbox(documents: Sequence[object]) -> Snapshot:
    """The members of these pages. Raises ValueError where a list is not whole or an entry is not as NetBox writes it."""
    pages = [Listing.model_validate(one) for one in documents]
    entries = [entry for page in pages for entry in page.results]
    if len(entries) != _said(pages) or len({(_kind(entry), entry.id) for entry in entries}) != len(entries):
        last = "" if any(page.next is None for page in pages) else ", and the last page is missing"
        told = sorted({page.count for page in pages})
        raise ValueError(
            f"its lists are not whole: {len(entries)} objects, where they say {' and '.join(map(str, told))}{last}; "
            "ask with ?limit=0, or give each page once"
        )
    hosts: dict[tuple[str, int], list[str]] = {}
    found: list[Member] = []
    nameless = 0
    for entry in entries:
        if _kind(entry) == "service":
            continue
        members = list(_members(entry))
        found += members
        if _kind(entry) in ("device", "virtual_machine"):
            hosts[_kind(entry), entry.id] = [one.network for one in members]
            nameless += not members and _is_live(entry)
    for entry in entries:
        found += _expected(entry, hosts)
    return Snapshot(together(found), (f"{nameless} devices without a primary address",) if nameless else ())


def _kind(entry: Entry) -> str:
    if entry.ports is not None and entry.protocol is not None:
        return "service"
    if entry.prefix is not None:
        return "prefix"
    if entry.address is not None:
        return "address"
    return "device" if entry.device_type is not None else "virtual_machine"


def _said(pages: Sequence[Listing]) -> int:
    """How many objects the lists have: pages of one list say the same number, so a list with a next page counts once."""
    return sum(page.count for page in pages if not page.next)


def _members(entry: Entry) -> Iterator[Member]:
    status = str(entry.status.value) if entry.status else "active"
    if status not in LIVE and status != "container":
        return
    try:
        if entry.prefix is not None:
            networks = [network_text(entry.prefix)]
        elif entry.address is not None:
            networks = [address_text(entry.address)]
        else:
            known = (entry.primary_ip4, entry.primary_ip6) if entry.primary_ip4 or entry.primary_ip6 else (entry.primary_ip,)
            networks = [address_text(one.address) for one in known if one is not None]
        for network in networks:
            yield labelled(network, _labels(entry), _tags(entry), entry.tenant.name if entry.tenant else "", status in LIVE)
    except ValueError as error:
        raise ValueError(f"object {entry.id}: {error}") from None


def _is_live(entry: Entry) -> bool:
    return entry.status is None or str(entry.status.value) in LIVE


def _labels(entry: Entry) -> dict[str, str]:
    """Custom fields as text: a choice may come as an object, a list as one."""
    found = {}
    for name, value in entry.custom_fields.items():
        if isinstance(value, dict):
            value = value.get("value", value.get("name", ""))
        found[name] = " ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)
    return found


def _tags(entry: Entry) -> Iterator[str]:
    yield from (tag.name for tag in entry.tags)
    if isinstance(entry.role, Named):
        yield entry.role.name
    if entry.site is not None:
        yield entry.site.name


def _expected(entry: Entry, hosts: dict[tuple[str, int], list[str]]) -> Iterator[Member]:
    """A service is expected on its addresses, or where it names none on those of its host."""
    if entry.ports is None or entry.protocol is None or entry.protocol.value not in ("tcp", "udp"):
        return
    expected = tuple(sorted({f"{entry.protocol.value}/{port}" for port in entry.ports if 1 <= port <= 65535}))
    networks = [address_text(one.address) for one in entry.ipaddresses]
    if not networks:
        places = (("device", entry.device), ("virtual_machine", entry.virtual_machine))
        networks = [network for kind, of in places if of is not None for network in hosts.get((kind, of.id), ())]
    for network in networks:
        yield Member(network, expected=expected)
