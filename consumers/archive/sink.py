"""What a sink is, and the sinks of other packages.

A sink is a class with a `name`, the `topics` it reads, and `write(records)`, which returns when the records are safe; writing
some twice must change nothing. A package adds one through the entry-point group `driftline.sinks` (a callable that takes the
settings); it then runs inside the archiver role with a consumer group of its own. Raise Backpressure to be called again later with
the same records.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Protocol

from infra.core.ports import Record
from infra.core.settings import Settings

GROUP = "driftline.sinks"


class Sink(Protocol):
    """Where batches of records go."""

    name: str
    topics: tuple[str, ...]

    def write(self, records: Sequence[Record]) -> None:
        """Make these records safe. Raises Backpressure if that is not possible now."""

    def idle(self) -> None:
        """Nothing came for a while; called a few times a minute."""


def outside_sinks(settings: Settings) -> list[Sink]:
    """The sinks that other installed packages add."""
    found: list[Sink] = [entry.load()(settings) for entry in entry_points(group=GROUP)]
    return found
