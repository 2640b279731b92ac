"""What the correlator remembers, under which keys of its changelog. One value a service, so that a host with a thousand is no burden.

host|<zone>|<ip>                       HostMemory
place|<zone>|<ip>|tcp/443              PlaceMemory
due|<moment>|<place key>               nothing: an index of what a tick must look at

`shown.py` keeps its index of what services show beside them (`seen|`, `product|`, `matched|`).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import datetime

from pydantic import BaseModel, ConfigDict

from infra.core.ports import State, read_state
from schemas.events.base import Transport
from schemas.events.findings import Exposure
from schemas.events.observations import ServiceObservation

GONE_KEPT = 64


class HostMemory(BaseModel):
    """When a host was first told of, what it is called, the revision of its last change, and what is left of services that closed.

    `told`: the highest revision of a place that was forgotten; a new place counts on from there, so that no exposure's revision falls.
    `gone`: the last places that were forgotten, as `tcp/443`: one that comes back is not new.
    """

    model_config = ConfigDict(extra="ignore")

    first_seen: datetime
    names: tuple[str, ...] = ()
    revision: int = 0
    told: int = 0
    gone: tuple[str, ...] = ()

    def forget(self, place: PlaceMemory) -> None:
        """Keep what must outlast a place that is closed."""
        name = f"{place.transport.value}/{place.port}"
        self.told = max(self.told, place.revision)
        if place.known:
            self.gone = (*(one for one in self.gone if one != name), name)[-GONE_KEPT:]

    def place(self, zone: str, address: str, transport: Transport, port: int, now: datetime) -> PlaceMemory:
        """The memory of a service that is not kept, or no more."""
        known = f"{transport.value}/{port}" in self.gone
        return PlaceMemory(zone=zone, address=address, port=port, transport=transport, revision=self.told, known=known, now=now)


class PlaceMemory(BaseModel):
    """A service as last told, and the exposures that stand for it.

    `revision` counts the times that exposures were told and never falls: HostMemory goes on counting. Once the service is closed and no
    exposure stands, the place is forgotten. `known`: it was seen once, now or earlier. `products`: its entries in the index of `shown.py`.
    `first_at`: when the first look at the port found it open, where it has been since; `first`: what was seen then, where it differs now.
    """

    model_config = ConfigDict(extra="ignore")

    zone: str
    address: str
    port: int
    transport: Transport
    revision: int = 0
    known: bool = False
    now: datetime
    seen: ServiceObservation | None = None
    evidence_ids: tuple[str, ...] = ()
    new_until: datetime | None = None
    flapping: bool = False
    impact_until: datetime | None = None
    standing: dict[str, Exposure] = {}
    products: tuple[str, ...] = ()
    due: datetime | None = None
    first_at: datetime | None = None
    first: ServiceObservation | None = None

    @property
    def key(self) -> str:
        """Its key in the changelog."""
        return place_key(self.zone, self.address, self.transport, self.port)

    @property
    def over(self) -> bool:
        """Whether nothing of it stands or is to come."""
        return self.seen is None and not (self.standing or self.flapping or self.due)


def host_key(zone: str, address: str) -> str:
    """The key of a host's memory."""
    return f"host|{zone}|{address}"


def place_key(zone: str, address: str, transport: str, port: int) -> str:
    """The key of a service's memory."""
    return f"{places_of(zone, address)}{transport}/{port}"


def places_of(zone: str, address: str) -> str:
    """The prefix of all services of a host."""
    return f"place|{zone}|{address}|"


def load_host(state: State, zone: str, address: str) -> HostMemory | None:
    """A host's memory, if there is one."""
    key = host_key(zone, address)
    value = state.get(key)
    return read_state(key, value, HostMemory.model_validate_json) if value else None


def save_host(state: State, zone: str, address: str, host: HostMemory) -> None:
    """Keep a host's memory."""
    state.put(host_key(zone, address), host.model_dump_json(exclude_defaults=True).encode())


def load_place(state: State, key: str) -> PlaceMemory | None:
    """A service's memory, if there is one."""
    value = state.get(key)
    return read_state(key, value, lambda one: PlaceMemory.model_validate_json(zlib.decompress(one))) if value else None


def save_place(state: State, place: PlaceMemory) -> None:
    """Keep a service's memory: compressed, since most of it is the sentences of its exposures."""
    state.put(place.key, zlib.compress(place.model_dump_json(exclude_defaults=True).encode(), 1))


def due_key(moment: datetime, key: str) -> str:
    """The index entry of a place that is due at a moment; keys sort as the moments do."""
    return f"due|{moment:%Y-%m-%dT%H:%M:%S.%fZ}|{key}"


def due_places(state: State, moment: datetime) -> Iterator[tuple[str, str]]:
    """Index entries due up to a moment, earliest first, with their place keys."""
    for key, _ in state.scan("due|"):
        _, at, place = key.split("|", 2)
        if at > f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}":
            return
        yield key, place
