"""What this machine remembers of the feeds that it synced: as of when each was, and what to ask its server the next time.

A server is asked whether its text has changed only if the topic still is the one that the text was written to.
"""

from __future__ import annotations

import json
import os
from datetime import datetime
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from producers.intel.fetching import Validators


class Note(BaseModel):
    """One feed from one place. `cluster` and `next_offset` tell the topic that it was written to, and how far that reached then."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    feed: str
    place: str
    as_of: datetime
    synced_at: datetime
    cluster: str = ""
    next_offset: int = 0
    etag: str = ""
    last_modified: str = ""

    def validators(self, cluster: str, next_offset: int) -> Validators:
        """What to ask the server with; nothing where the topic is another one, or was made anew."""
        same = self.cluster == cluster and self.next_offset <= next_offset
        return Validators(self.etag, self.last_modified) if same else Validators()


Notes = dict[str, Note]
"""By feed and place (`key_of`)."""


def key_of(feed: str, place: str) -> str:
    """The name of a note."""
    return f"{feed} {place}"


def folder_of(data_dir: Path) -> Path:
    """Where notes and downloads are kept; made if it is not there."""
    folder = data_dir / "intel"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def load_notes(data_dir: Path) -> Notes:
    """The notes; none where there are none, or none that can be read: then everything is fetched anew."""
    try:
        held = json.loads((data_dir / "intel" / "notes.json").read_text())
        return {key: Note.model_validate(one) for key, one in held.items()}
    except (OSError, ValueError, AttributeError, ValidationError):
        return {}


def save_notes(data_dir: Path, notes: Notes) -> None:
    """Write the notes, whole or not at all."""
    folder = folder_of(data_dir)
    draft = folder / f".notes.{os.getpid()}"
    draft.write_text(json.dumps({key: one.model_dump(mode="json") for key, one in sorted(notes.items())}, indent=1))
    draft.replace(folder / "notes.json")
