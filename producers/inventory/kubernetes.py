"""What `kubectl get services,nodes,ingresses -A -o json` prints: the addresses at which a cluster is reached, and the ports behind them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated

from pydantic import BaseModel, BeforeValidator, Field

from producers.inventory.members import Member, Snapshot, address_text, expected_services, labelled, together

KINDS = {"ServiceList": "Service", "NodeList": "Node", "IngressList": "Ingress"}


def _empty(value: object) -> object:
    """Kubernetes writes null where it means nothing."""
    return {} if value is None else value


def _none(value: object) -> object:
    return [] if value is None else value


Labels = Annotated[dict[str, str], BeforeValidator(_empty)]


class Metadata(BaseModel):
    """What every object has."""

    name: str = ""
    namespace: str = ""
    labels: Labels = Field(default_factory=dict)
    annotations: Labels = Field(default_factory=dict)
    # Of a list that was not read to its end.
    resume: str = Field("", alias="continue")


class Port(BaseModel):
    """A port of a service."""

    port: int = Field(ge=1, le=65535)
    protocol: str = "TCP"


class Place(BaseModel):
    """An address of a load balancer, or its name; an address of a node."""

    ip: str = ""
    hostname: str = ""
    type: str = ""
    address: str = ""


class Balancer(BaseModel):
    """Where a load balancer is reached."""

    ingress: Annotated[list[Place], BeforeValidator(_none)] = Field(default_factory=list)


class Spec(BaseModel):
    """What was asked for."""

    ports: Annotated[list[Port], BeforeValidator(_none)] = Field(default_factory=list)
    externalIPs: Annotated[list[str], BeforeValidator(_none)] = Field(default_factory=list)  # noqa: N815  Kubernetes' name
    tls: Annotated[list[object], BeforeValidator(_none)] = Field(default_factory=list)


class Status(BaseModel):
    """What is."""

    loadBalancer: Annotated[Balancer, BeforeValidator(_empty)] = Field(default_factory=Balancer)  # noqa: N815
    addresses: Annotated[list[Place], BeforeValidator(_none)] = Field(default_factory=list)


class Thing(BaseModel):
    """A service, a node, an ingress, or what is none of them."""

    kind: str = ""
    metadata: Metadata
    spec: Annotated[Spec, BeforeValidator(_empty)] = Field(default_factory=Spec)
    status: Annotated[Status, BeforeValidator(_empty)] = Field(default_factory=Status)


class Listing(BaseModel):
    """What kubectl prints for several objects."""

    kind: str
    metadata: Metadata = Field(default_factory=Metadata)
    items: list[Thing]


def read_kubernetes(documents: Sequence[object]) -> Snapshot:
    """The members of these lists. Raises ValueError where a list is not whole or an object is not as Kubernetes writes it."""
    found: list[Member] = []
    names = 0
    for document in documents:
        listing = Listing.model_validate(document)
        if listing.metadata.resume:
            raise ValueError("its list is not whole: it has a 'continue'; ask without --chunk-size")
        for thing in listing.items:
            kind = thing.kind or KINDS.get(listing.kind, "")
            try:
                found += _members(kind, thing)
            except ValueError as error:
                raise ValueError(f"{kind} {thing.metadata.namespace}/{thing.metadata.name}: {error}") from None
            names += sum(bool(one.hostname and not one.ip) for one in thing.status.loadBalancer.ingress)
    return Snapshot(together(found), (f"{names} load balancers that have a name and no address",) if names else ())


def _members(kind: str, thing: Thing) -> Iterator[Member]:
    """A cluster's own addresses (ClusterIP, pods) are not reached from outside, and are none."""
    balanced = [place.ip for place in thing.status.loadBalancer.ingress if place.ip]
    expected: tuple[str, ...] = ()
    if kind == "Service":
        addresses = [*balanced, *thing.spec.externalIPs]
        # A port by SCTP is none that we look at.
        expected = tuple(f"{one.protocol.lower()}/{one.port}" for one in thing.spec.ports if one.protocol in ("TCP", "UDP"))
    elif kind == "Ingress":
        addresses = balanced
        expected = ("tcp/80", "tcp/443") if thing.spec.tls else ("tcp/80",)
    elif kind == "Node":
        addresses = [one.address for one in thing.status.addresses if one.type in ("InternalIP", "ExternalIP")]
    else:
        return
    labels = {**thing.metadata.labels, **thing.metadata.annotations}
    tags = (f"kubernetes-{kind.lower()}", f"namespace-{thing.metadata.namespace}" if thing.metadata.namespace else "")
    for address in addresses:
        member = labelled(address_text(address), labels, tags)
        services = tuple(sorted({*member.expected, *expected_services(" ".join(expected))}))
        yield Member(member.network, member.owner, member.criticality, member.tags, services)
