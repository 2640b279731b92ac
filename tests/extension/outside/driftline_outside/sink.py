"""Writes every finding as a line of JSON into a file of the data folder."""

from __future__ import annotations

import os
from collections.abc import Sequence

from infra.core.ports import Record
from infra.core.settings import Settings
from schemas.events.findings import Finding


class Lines:
    """One line a revision; a line that is written twice says the same twice."""

    name = "lines"
    topics = ("findings",)

    def __init__(self, settings: Settings) -> None:
        self._path = settings.data_dir / "outside-findings.jsonl"

    def write(self, records: Sequence[Record]) -> None:
        """Returns when the lines are on the disk."""
        with self._path.open("a") as file:
            file.writelines(record.event.model_dump_json() + "\n" for record in records if isinstance(record.event, Finding))
            file.flush()
            os.fsync(file.fileno())

    def idle(self) -> None:
        """Nothing to do."""
