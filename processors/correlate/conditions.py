"""Conditions over the facts of a service, as a user's rules state them. All that are given must hold; of a list, one of its members."""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from processors.correlate.contract import ServiceFacts
from schemas.events.base import Transport
from schemas.events.context import Criticality


def _listed(value: Any) -> Any:
    """A single value as a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


def _ports(value: Any) -> Any:
    """Ports and ranges (`8000-8090`) as pairs."""
    found = []
    for one in _listed(value):
        low, dash, high = str(one).partition("-")
        if isinstance(one, bool) or not low.isdecimal() or (dash and not high.isdecimal()):
            raise ValueError(f"{one!r} is no port such as 443, nor a range such as '8000-8090'")
        pair = (int(low), int(high or low))
        if not 1 <= pair[0] <= pair[1] <= 65535:
            raise ValueError(f"{one!r} is not within 1 to 65535, or runs backwards")
        found.append(pair)
    return tuple(found)


def _networks(value: Any) -> Any:
    return tuple(str(ipaddress.ip_network(one)) for one in _listed(value))


Patterns = Annotated[tuple[Annotated[str, Field(min_length=1, max_length=200)], ...], BeforeValidator(_listed), Field(min_length=1)]
"""Texts in which `*`, `?` and `[…]` stand for others, as in file names; upper and lower case are the same."""
Ports = Annotated[tuple[tuple[int, int], ...], BeforeValidator(_ports), Field(min_length=1)]
Networks = Annotated[tuple[str, ...], BeforeValidator(_networks), Field(min_length=1)]
Numbers = Annotated[tuple[int, ...], BeforeValidator(_listed), Field(min_length=1)]
Criticalities = Annotated[tuple[Criticality, ...], BeforeValidator(_listed), Field(min_length=1)]


class Part(BaseModel):
    """A table of conditions; an unknown one is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def given(self) -> dict[str, Any]:
        """The conditions that are stated."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None and value != {}}

    def words(self) -> str:
        """The conditions in words."""
        return " and ".join(_words(name, value) for name, value in self.given().items())

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if not self.given():
            raise ValueError("it states no condition, and would hold everywhere")
        return self


class HttpWhen(Part):
    """Conditions on what a web server answered. They hold only where it answered HTTP."""

    status: Numbers | None = None
    title: Patterns | None = None
    server: Patterns | None = None
    location: Patterns | None = None
    header: dict[str, Patterns] = Field(default_factory=dict)

    def holds(self, facts: ServiceFacts) -> bool:
        """Whether they do."""
        http = facts.service.http
        if http is None or (self.status is not None and http.status not in self.status):
            return False
        texts = ((self.title, http.title), (self.server, http.server), (self.location, http.location))
        return all(wanted is None or _like(text, wanted) for wanted, text in texts) and _holds(self.header, http.headers)


class When(Part):
    """Conditions on a service, its place and its owner. `fact`: what probes proved; `tags`: of the inventory, any."""

    service: Patterns | None = None
    product: Patterns | None = None
    version: Patterns | None = None
    banner: Patterns | None = None
    port: Ports | None = None
    transport: Transport | None = None
    zone: Patterns | None = None
    network: Networks | None = None
    name: Patterns | None = None
    owner: Patterns | None = None
    tags: Patterns | None = None
    criticality: Criticalities | None = None
    tls: bool | None = None
    new: bool | None = None
    http: HttpWhen | None = None
    fact: dict[str, Patterns] = Field(default_factory=dict)

    def holds(self, facts: ServiceFacts) -> bool:
        """Whether all of them do. What the inventory does not say fits no pattern."""
        service, record = facts.service, facts.inventory
        texts = (
            (self.service, (service.service,)),
            (self.product, (service.product,)),
            (self.version, (service.version,)),
            (self.banner, (service.banner,)),
            (self.zone, (facts.zone,)),
            (self.name, facts.names),
            (self.owner, (record.owner,) if record else ()),
            (self.tags, record.tags if record else ()),
        )
        return (
            all(wanted is None or any(_like(text, wanted) for text in found) for wanted, found in texts)
            and (self.port is None or any(low <= service.port <= high for low, high in self.port))
            and (self.transport is None or service.transport is self.transport)
            and (self.network is None or any(ipaddress.ip_address(facts.address) in ipaddress.ip_network(one) for one in self.network))
            and (self.criticality is None or (record is not None and record.criticality in self.criticality))
            and (self.tls is None or (service.tls is not None) is self.tls)
            and (self.new is None or facts.new is self.new)
            and (self.http is None or self.http.holds(facts))
            and _holds(self.fact, service.facts)
        )


def _like(text: str, patterns: tuple[str, ...]) -> bool:
    low = text.lower()
    return any(fnmatch.fnmatchcase(low, pattern.lower()) for pattern in patterns)


def _holds(wanted: Mapping[str, tuple[str, ...]], found: Mapping[str, str]) -> bool:
    return all(name.lower() in found and _like(found[name.lower()], patterns) for name, patterns in wanted.items())


def _words(name: str, value: Any) -> str:
    if isinstance(value, Part):
        return f"{name} ({value.words()})"
    if isinstance(value, bool):
        return name if value else f"not {name}"
    if isinstance(value, dict):
        return " and ".join(_words(f"{name} {key}", one) for key, one in value.items())
    parts = value if isinstance(value, tuple) else (value,)
    return f"{name} {' or '.join('-'.join(map(str, dict.fromkeys(one))) if isinstance(one, tuple) else str(one) for one in parts)}"
