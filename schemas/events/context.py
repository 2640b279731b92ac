"""What is known from elsewhere: whose an asset is, and what the world knows of a vulnerability."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.events.base import Event, Fraction, Timestamp


class Criticality(StrEnum):
    """How much an asset matters to its owner."""

    LOW = "low"
    NORMAL = "normal"
    HIGH = "high"
    CRITICAL = "critical"


class InventoryRecord(Event):
    """Owner, criticality and expectations of a network or one address. The longest matching network counts."""

    zone: str = "default"
    network: str
    owner: str = ""
    criticality: Criticality = Criticality.NORMAL
    tags: tuple[str, ...] = ()
    expected: tuple[str, ...] = Field((), description="services expected there, e.g. tcp/443")
    changed_by: str = ""


class AffectedProduct(Event):
    """Vendor and product with the first version that is fixed ('' if none is known) and the first that is affected."""

    vendor: str
    product: str
    introduced: str = ""
    fixed: str = ""


class IntelRecord(Event):
    """What feeds say of one CVE. None is unknown, never 0."""

    cve: str
    title: str = ""
    cvss: float | None = Field(None, ge=0, le=10)
    epss: Fraction | None = None
    epss_model: str = ""
    kev: bool | None = None
    ssvc_exploitation: str = ""
    ssvc_automatable: str = ""
    ssvc_technical_impact: str = ""
    affected: tuple[AffectedProduct, ...] = ()
    as_of: Timestamp
