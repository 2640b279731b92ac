"""The highest revision of each grant that this scanner ever believed, on its disk: what keeps a revoked grant from being revived."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from infra.core.errors import MissingPrerequisite


def load_floors(path: Path) -> dict[str, int]:
    """Highest revisions by grant id; none if there is no file yet. Raises MissingPrerequisite for a damaged one."""
    try:
        floors = json.loads(path.read_text())
        if not isinstance(floors, dict) or not all(isinstance(one, int) for one in floors.values()):
            raise ValueError("not a table of revisions")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise MissingPrerequisite(
            f"The highest grant revisions in {path} can't be read ({error}); without them a revoked grant could come back.",
            "Restore the file, or revoke again what must stay revoked and then delete it.",
        ) from None
    return floors


def save_floors(path: Path, floors: Mapping[str, int]) -> None:
    """Replace the file at once and for good: a crash leaves the old one or the new one. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".new")
    with draft.open("w") as file:
        json.dump(floors, file, indent=1, sort_keys=True)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
