"""What `aws ec2 describe-instances` and `aws ec2 describe-network-interfaces` print (Amazon EC2 API reference)."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_pascal

from producers.inventory.members import Member, Snapshot, address_text, labelled, together

GONE = frozenset({"terminated", "shutting-down"})


class Aws(BaseModel):
    """AWS writes its names LikeThis."""

    model_config = ConfigDict(alias_generator=to_pascal)


class Tag(Aws):
    """A tag."""

    key: str
    value: str = ""


class Association(Aws):
    """The public side of a private address."""

    public_ip: str = ""


class PrivateAddress(Aws):
    """An address of an interface."""

    private_ip_address: str = ""
    association: Association | None = None


class AddressV6(Aws):
    """An IPv6 address of an interface."""

    ipv6_address: str = Field("", alias="Ipv6Address")


class Interface(Aws):
    """A network interface, by itself or of an instance."""

    network_interface_id: str = ""
    private_ip_addresses: list[PrivateAddress] = Field(default_factory=list)
    ipv6_addresses: list[AddressV6] = Field(default_factory=list, alias="Ipv6Addresses")
    association: Association | None = None
    private_ip_address: str = ""
    tag_set: list[Tag] = Field(default_factory=list)

    def addresses(self) -> Iterator[str]:
        """All of them, public ones too."""
        for one in self.private_ip_addresses:
            yield one.private_ip_address
            yield one.association.public_ip if one.association else ""
        yield self.private_ip_address
        yield self.association.public_ip if self.association else ""
        yield from (one.ipv6_address for one in self.ipv6_addresses)


class State(Aws):
    """What an instance is doing."""

    name: str


class Instance(Aws):
    """An instance."""

    instance_id: str
    state: State
    private_ip_address: str = ""
    public_ip_address: str = ""
    network_interfaces: list[Interface] = Field(default_factory=list)
    tags: list[Tag] = Field(default_factory=list)


class Reservation(Aws):
    """Instances that were started together."""

    instances: list[Instance]


class Description(Aws):
    """Either answer; one of the two lists is there."""

    reservations: list[Reservation] | None = None
    network_interfaces: list[Interface] | None = None
    next_token: str | None = None


def read_aws(documents: Sequence[object]) -> Snapshot:
    """The members of these answers. Raises ValueError where one is not whole or not as AWS writes it."""
    found: list[Member] = []
    for document in documents:
        said = Description.model_validate(document)
        if said.next_token:
            raise ValueError("its list is not whole: it has a 'NextToken'; ask without --max-items")
        if said.reservations is None and said.network_interfaces is None:
            raise ValueError("it has neither Reservations nor NetworkInterfaces")
        for instance in (one for reservation in said.reservations or () for one in reservation.instances):
            if instance.state.name not in GONE:
                found += _instance(instance)
        for interface in said.network_interfaces or ():
            found += _members(interface.network_interface_id, interface.addresses(), interface.tag_set, "aws-interface")
    return Snapshot(together(found))


def _instance(instance: Instance) -> Iterator[Member]:
    addresses = [instance.private_ip_address, instance.public_ip_address]
    addresses += [address for interface in instance.network_interfaces for address in interface.addresses()]
    yield from _members(instance.instance_id, iter(addresses), instance.tags, "aws-instance")


def _members(name: str, addresses: Iterator[str], tags: Sequence[Tag], kind: str) -> Iterator[Member]:
    labels = {tag.key: tag.value for tag in tags}
    try:
        for address in dict.fromkeys(map(address_text, filter(None, addresses))):
            public = "public" if ipaddress.ip_address(address).is_global else "private"
            yield labelled(address, labels, (kind, public, labels.get("Name", "")))
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
