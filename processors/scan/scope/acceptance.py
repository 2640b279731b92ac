"""Whether a record of `work.<zone>` is a unit that makes sense, and whether its grant still lets it begin. Pure."""

from __future__ import annotations

import ipaddress
from datetime import datetime, timedelta

from infra.core.errors import Poison
from schemas.codec import Codec
from schemas.events.targets import WorkUnit
from schemas.ids import subnet_of
from schemas.scope import GrantBook, contains
from schemas.topics import work_topic

MOST_HELD = timedelta(minutes=10)  # the planner orders two at most; and clocks differ


def read_unit(codec: Codec, zone: str, value: bytes | None, now: datetime) -> WorkUnit:
    """The unit in a record of the zone's work topic. Raises UndecodableError or Poison with the reason."""
    if value is None:
        raise Poison("a tombstone is no work")
    unit = codec.decode(work_topic(zone), value)
    if not isinstance(unit, WorkUnit):
        raise Poison("not a unit of work")
    if unit.zone != zone:
        raise Poison(f"the unit is for zone {unit.zone}, this is {zone}")
    if unit.not_before is not None and unit.not_before > now + MOST_HELD:
        raise Poison(f"the unit is not to begin before {unit.not_before.isoformat()}; what is behind it can't wait so long")
    try:
        stray = next((one for one in unit.addresses if subnet_of(one) != unit.subnet), None)
    except ValueError as error:
        raise Poison(str(error)) from None
    if stray is not None or not unit.addresses:  # results go to the partition of the subnet, which must be the one that holds the host
        raise Poison(f"{stray} is not in the unit's subnet {unit.subnet}" if stray else "the unit has no addresses")
    return unit


def knows_grant(book: GrantBook, unit: WorkUnit) -> bool:
    """Whether the revision that the planner saw, or a later one, is known here too."""
    known = book.known.get(unit.grant_id)
    return known is not None and known.grant.revision >= unit.grant_revision


def uncovered(book: GrantBook, unit: WorkUnit) -> str | None:
    """Why no packet of the unit could leave though its grant stands. Single addresses and ports are the gate's matter."""
    if not knows_grant(book, unit):
        return f"revision {unit.grant_revision} of grant {unit.grant_id} is not known here"
    networks = book.known[unit.grant_id].networks
    if not any(contains(networks, ipaddress.ip_address(one)) for one in unit.addresses):
        return f"no address of the unit is in a network of grant {unit.grant_id}"
    return None
