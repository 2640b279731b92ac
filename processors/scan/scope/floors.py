"""What this scanner ever believed of each grant, and what is frozen, on its disk: so that emptying a topic revives and hides nothing.

The highest revisions keep a revoked grant from coming back; the grants themselves keep their exclusions from vanishing.
"""

from __future__ import annotations

import ipaddress
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from infra.core.errors import MissingPrerequisite
from processors.scan.scope.orders import frozen_networks
from schemas.events.grants import Grant
from schemas.ids import Network


@dataclass(frozen=True, slots=True)
class Floors:
    """Highest revisions by grant id, the grants that were believed at them, the frozen networks. Signatures are checked at each start."""

    revisions: Mapping[str, int] = field(default_factory=dict)
    grants: Mapping[str, Grant] = field(default_factory=dict)
    frozen: tuple[Network, ...] = ()


def load_floors(path: Path) -> Floors:
    """What was saved; nothing if there is no file yet. Raises MissingPrerequisite for a damaged one."""
    try:
        return _read(json.loads(path.read_text()))
    except FileNotFoundError:
        return Floors()
    except (OSError, ValueError, RecursionError) as error:
        raise MissingPrerequisite(
            f"The highest grant revisions in {path} can't be read ({error}); without them a revoked grant could come back.",
            "Restore the file, or revoke and freeze again what must stay so and then delete it.",
        ) from None


def _read(saved: object) -> Floors:
    """Raises ValueError for what none of our versions wrote."""
    if not isinstance(saved, dict) or not saved:
        raise ValueError("not a table of revisions")
    # Older files are the table of revisions itself, whose values are numbers; a little younger ones lack what is frozen.
    whole = saved if isinstance(saved.get("revisions"), dict) else {"revisions": saved}
    revisions, grants, frozen = whole["revisions"], whole.get("grants", []), whole.get("frozen", [])
    if not all(type(one) is int and one >= 0 for one in revisions.values()):
        raise ValueError("not a table of revisions")
    if whole.keys() - {"revisions", "grants", "frozen"} or not isinstance(grants, list) or not isinstance(frozen, list):
        raise ValueError("something else beside revisions, grants and what is frozen")
    if not all(isinstance(one, str) for one in frozen):
        raise ValueError("what is frozen is no network")
    for one in frozen:
        ipaddress.ip_network(one, strict=False)
    believed = {one.grant_id: one for one in map(Grant.model_validate, grants)}
    return Floors(revisions, believed, frozen_networks(tuple(frozen)) if frozen else ())


def save_floors(path: Path, floors: Floors) -> None:
    """Replace the file at once and for good: a crash leaves the old one or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    grants = [one.model_dump(mode="json") for _, one in sorted(floors.grants.items())]
    with draft.open("w") as file:
        saved = {"revisions": dict(floors.revisions), "grants": grants, "frozen": [str(one) for one in floors.frozen]}
        json.dump(saved, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
