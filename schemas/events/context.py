"""Whose an asset is, how much it matters, and what should be there."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.events.base import Event


class Criticality(StrEnum):
    """How much an asset matters to its owner."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


NOTHING = "none"
"""As the only expected service: none at all is."""


class InventoryRecord(Event):
    """Owner, criticality and expectations of a network or one address. The longest matching network counts."""

    zone: str = "default"
    network: str
    owner: str = ""
    criticality: Criticality = Criticality.NORMAL
    tags: tuple[str, ...] = ()
    expected: tuple[str, ...] = Field((), description="services expected there, e.g. tcp/443; none alone: none should be")
    changed_by: str = ""
    source: str = Field(
        "", description="the source whose snapshots keep this record, e.g. netbox; empty: a person's word, which no snapshot changes"
    )
