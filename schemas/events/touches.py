"""What a scanner sent, packet by packet counted: the answer to "was it us?"."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.events.base import Event, PortRange, Timestamp


class PacketKind(StrEnum):
    """What a packet was. `icmp` is that of the packet's IP version."""

    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"
    OTHER = "other"


class Touch(Event):
    """So many packets to each address from `first` to `last`: equally many to each of these ports, or, without ports, such as have none.

    `every_port` is false where they went to many ports in no order: `ports` is then the span that holds them. `first_at` and `last_at`
    are when the earliest and the latest of all left.
    """

    first: str
    last: str
    kind: PacketKind
    ports: tuple[PortRange, ...] = ()
    every_port: bool = True
    packets: int = Field(ge=1)
    first_at: Timestamp
    last_at: Timestamp


class Touches(Event):
    """What left this machine for the addresses of one unit since the record before, some second ago. Records add up.

    Unlike a SweepResult it is published whatever becomes of the unit, also of attempts that are done again. `exact`: counted by the
    kernel's own tap, none missed; else by what the gate let through. `issued_by` is who issued the grant, by the grant itself.
    """

    record_id: str
    unit_id: str
    run_id: str
    campaign_id: str | None = None
    zone: str
    subnet: str
    grant_id: str
    grant_revision: int
    issued_by: str
    agent_id: str
    attempt: int = 1
    exact: bool
    touches: tuple[Touch, ...]
    at: Timestamp
