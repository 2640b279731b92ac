"""What the assessor remembers, under which keys of its changelog.

finding|<finding id>                   FindingMemory
exposure|<finding id>|<exposure id>    the Exposure that stands at one place
due|<moment>|<finding id>              nothing: an index of what a tick must look at
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from pydantic import BaseModel, ConfigDict

from infra.core.errors import Poison
from infra.core.ports import State, read_state
from schemas.events.findings import Decision, Exposure, Finding, Review

RESOLVED_KEPT = 100


class PlaceEntry(NamedTuple):
    """One place of a finding: the revision of its exposure that counts, the base risk of what stands there (None: resolved), where it is,
    and whether it is of the baseline.

    As small as can be, since one certificate may be in ten thousand places; the rest is in the exposure itself.
    """

    revision: int
    base: float | None
    where: str
    baseline: bool = False


class FindingMemory(BaseModel):
    """A finding as last told, and what it is made of.

    `revision` outlives the finding, so that one that comes back after its tombstone goes on counting. Of what people decided it keeps
    the last on the status (`standing`), the risk (`edit`), who works on it (`assignment`), the last remark, and the last ids (`applied`).
    """

    model_config = ConfigDict(extra="ignore")

    finding_id: str
    revision: int = 0
    now: datetime
    told: Finding | None = None
    places: dict[str, PlaceEntry] = {}
    first_seen: datetime | None = None
    resolved_at: datetime | None = None
    reopened: int = 0
    standing: Decision | None = None
    edit: Decision | None = None
    assignment: Decision | None = None
    comment: Decision | None = None
    applied: tuple[str, ...] = ()
    review: Review = Review()
    model_risk: float | None = None
    due: datetime | None = None

    def keep_place(self, exposure_id: str, entry: PlaceEntry) -> None:
        """Keep a place as the one told of last. Of resolved ones only the last few: a certificate may wander through a cloud for years.

        Their revisions guard against a record that comes twice; order within a place is Kafka's, so that none comes after so many others.
        """
        self.places.pop(exposure_id, None)
        self.places[exposure_id] = entry
        resolved = [key for key, one in self.places.items() if one.base is None]
        for key in resolved[:-RESOLVED_KEPT]:
            del self.places[key]

    def worst(self) -> str | None:
        """The exposure id of the worst open place; equal ones go by id, so that the order of arrival does not matter."""
        return max(((one.base, key) for key, one in self.places.items() if one.base is not None), default=(0.0, None))[1]

    def is_baseline(self) -> bool:
        """Whether each open place is of the baseline: one that is news makes the finding news."""
        return all(one.baseline for one in self.places.values() if one.base is not None)

    def open_places(self) -> list[str]:
        """The exposure ids of the open places, ordered by where they are."""
        return [key for _, key in sorted((one.where, key) for key, one in self.places.items() if one.base is not None)]


def load(state: State, finding_id: str) -> FindingMemory | None:
    """A finding's memory, if there is one."""
    key = f"finding|{finding_id}"
    value = state.get(key)
    return read_state(key, value, lambda one: FindingMemory.model_validate_json(zlib.decompress(one))) if value else None


def save(state: State, memory: FindingMemory) -> None:
    """Keep a finding's memory."""
    state.put(f"finding|{memory.finding_id}", zlib.compress(memory.model_dump_json(exclude_defaults=True).encode(), 1))


def exposure_key(finding_id: str, exposure_id: str) -> str:
    """The key of what stands at one place."""
    return f"exposure|{finding_id}|{exposure_id}"


def load_exposure(state: State, finding_id: str, exposure_id: str) -> Exposure:
    """What stands at an open place. Raises Poison if the state does not hold it, which would be a fault of ours."""
    key = exposure_key(finding_id, exposure_id)
    value = state.get(key)
    if value is None:
        raise Poison(f"the exposure {exposure_id} of finding {finding_id} is not in the state")
    return read_state(key, value, Exposure.model_validate_json)


def due_key(moment: datetime, finding_id: str) -> str:
    """The index entry of a finding that is due at a moment; keys sort as the moments do."""
    return f"due|{moment:%Y-%m-%dT%H:%M:%S.%fZ}|{finding_id}"


def due_findings(state: State, moment: datetime) -> Iterator[tuple[str, str]]:
    """Index entries due up to a moment, earliest first, with their finding ids."""
    for key, _ in state.scan("due|"):
        _, at, finding = key.split("|", 2)
        if at > f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}":
            return
        yield key, finding
