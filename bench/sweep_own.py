"""`driftline sweep` as the benchmark starts it: its own data folder, keys and grants, and how to read what it says."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bench.sweep_peers import Errand, Place
from infra.core.settings import Settings
from infra.core.trust import load_signers
from producers.auditing import local_actor
from producers.grants.issuing import Desk, GrantForm, create_grant
from producers.grants.keys import ensure_key
from schemas.events.base import Event

NETWORKS = ("198.18.0.0/16",)
UNBOUNDED = 100_000_000
PROGRAM = Path(sys.executable).with_name("driftline")


@dataclass(frozen=True, slots=True)
class Findings:
    """What one run said: the open places as often as it named them, and its last line."""

    places: list[Place]
    summary: dict[str, Any]


class Home:
    """A data folder with a key that this machine trusts for the rig's network."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._settings = Settings(data_dir=folder)
        self._key = ensure_key(self._settings, "bench", NETWORKS)

    def grant(
        self, name: str, *, rate: int = UNBOUNDED, per_host: int | None = None, exclusions: tuple[str, ...] = (), minutes: float = 120
    ) -> Path:
        """A file with a signed grant for the rig's network."""
        now = datetime.now(UTC)
        form = GrantForm(
            NETWORKS,
            now + timedelta(minutes=minutes),
            exclusions=exclusions,
            packets_per_second=rate,
            per_host_per_second=per_host or rate,
            grant_id=name,
        )
        desk = Desk(local_actor(), load_signers(self._settings), self._settings.zones, {}, _nowhere)
        path = self.folder / f"{name}.json"
        path.write_text(create_grant(form, self._key, desk, now).model_dump_json())
        return path

    def environment(self, **settings: object) -> dict[str, str]:
        """What the command reads: this folder, and settings of the scanner.

        Compiled files are written and read, as on any machine that does not forbid it: else each start compiles all it imports.
        """
        over = {f"DRIFTLINE_SCANNER__{name.upper()}": str(value) for name, value in settings.items()}
        kept = {name: value for name, value in os.environ.items() if name not in ("PYTHONDONTWRITEBYTECODE", "DRIFTLINE_CONFIG")}
        return kept | {"DRIFTLINE_DATA_DIR": str(self.folder)} | over


def command(errand: Errand, grant: Path, *more: str) -> list[str]:
    """The command line for an errand."""
    return [str(PROGRAM), "sweep", errand.target, "-p", errand.ports, "--grant", str(grant), "--json", *more]


def read(text: str) -> Findings:
    """The output of `--json`."""
    places: list[Place] = []
    summary: dict[str, Any] = {}
    for line in text.splitlines():
        told = json.loads(line)
        if "summary" in told:
            summary = told["summary"]
        else:
            places += [(told["address"], port) for port in told["open"]]
    return Findings(places, summary)


def _nowhere(topic: str, key: str, event: Event) -> None:
    """A grant in a file is not published."""
