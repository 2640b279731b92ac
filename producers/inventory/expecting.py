"""What a campaign expects at its targets, as records of the inventory. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator, Mapping

from infra.core.errors import BadInput
from producers.inventory.members import expected_services, network_text
from schemas.events.base import Event
from schemas.events.context import InventoryRecord
from schemas.ids import subnet_key
from schemas.targeting import Span, parse_target

MOST_NETWORKS = 256


def expecting(targets: Iterable[str], zone: str, services: str, known: Mapping[str, Event], who: str) -> dict[str, InventoryRecord]:
    """The records to publish, by key: `services` (`tcp/443 tcp/22`, or `none`) at each target; what the inventory says besides is kept.

    Like `inventory push` it is a person's word: a source that kept a record no longer does. Raises BadInput.
    """
    try:
        expected = expected_services(services)
        networks = [network for target in targets for network in _networks(target)]
    except ValueError as error:
        raise BadInput(f"{str(error).rstrip('.')}.", "Write e.g. --expect 'tcp/443 tcp/22', or --expect none.") from None
    if not expected:
        raise BadInput("--expect names no service.", "Write e.g. --expect 'tcp/443 tcp/22', or --expect none.")
    if len(networks) > MOST_NETWORKS:
        raise BadInput(
            f"These targets are {len(networks)} networks, more than {MOST_NETWORKS}.", "Push them with 'driftline inventory push'."
        )
    found: dict[str, InventoryRecord] = {}
    for network in networks:
        key = subnet_key(zone, network)
        before = known.get(key)
        record = before if isinstance(before, InventoryRecord) else InventoryRecord(zone=zone, network=network)
        found[key] = record.model_copy(update={"expected": expected, "changed_by": who, "source": ""})
    return found


def _networks(target: str) -> Iterator[str]:
    span = parse_target(target)
    if not isinstance(span, Span):
        raise ValueError(f"'{target[:80]}' is a name, and services are expected at addresses")
    make = ipaddress.IPv4Address if span.version == 4 else ipaddress.IPv6Address
    for network in ipaddress.summarize_address_range(make(span.first), make(span.last)):
        yield network_text(str(network))
