"""What this scanner ever believed of each grant, and what is frozen, on its disk: so that emptying a topic revives and hides nothing.

The highest revisions keep a revoked grant from coming back; the grants themselves keep their exclusions from vanishing.
"""

from __future__ import annotations

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
        saved = json.loads(path.read_text())
        if not isinstance(saved, dict):
            raise ValueError("not a table of revisions")
        # Older files are the table of revisions itself, whose values are numbers.
        whole = isinstance(saved.get("revisions"), dict)
        revisions, grants = (saved["revisions"], saved.get("grants", [])) if whole else (saved, [])
        frozen = saved.get("frozen", []) if whole else []
        if not all(isinstance(one, int) for one in revisions.values()) or not isinstance(grants, list) or not isinstance(frozen, list):
            raise ValueError("not a table of revisions")
        believed = {one.grant_id: one for one in map(Grant.model_validate, grants)}
        return Floors(revisions, believed, frozen_networks(tuple(frozen)) if frozen else ())
    except FileNotFoundError:
        return Floors()
    except (OSError, ValueError) as error:
        raise MissingPrerequisite(
            f"The highest grant revisions in {path} can't be read ({error}); without them a revoked grant could come back.",
            "Restore the file, or revoke again what must stay revoked and then delete it.",
        ) from None


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
