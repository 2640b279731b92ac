"""What a sink is, and the sinks of other packages.

A sink is a class with a `name`, the `topics` it reads, `write(records)`, which returns when the records are safe (writing some
twice must change nothing), and `idle()`. A package adds one through the entry-point group `driftline.sinks` (a callable that takes
the settings); it then runs inside the archiver role, in a thread and with a consumer group of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import entry_points
from typing import Protocol

import structlog

from consumers.archive.blocks import Block
from infra.core.ports import Record
from infra.core.settings import Settings

log = structlog.get_logger()
GROUP = "driftline.sinks"


class Sink(Protocol):
    """Where batches of records go."""

    name: str
    topics: tuple[str, ...]

    def write(self, records: Sequence[Record]) -> None:
        """Make these records safe.

        Raises Backpressure to be called again later with the same records, and Poison if one of them can never be written: smaller
        parts of the batch are then tried, until the bad record is alone and goes to its DLQ with the reason.
        """

    def idle(self) -> None:
        """For upkeep: called between batches, at most once a second, also when nothing comes."""


class ColumnSink(Sink, Protocol):
    """A sink that takes rows in columns too."""

    def write_columns(self, blocks: Sequence[Block], records: Sequence[Record]) -> None:
        """Make these rows and these records safe. Raises as `write` does; the blocks' records then come again through `write`."""


def outside_sinks(settings: Settings) -> list[Sink]:
    """The sinks that other installed packages add. One that can't be made is left out, and logged; so is a name that is taken."""
    found: dict[str, Sink] = {}
    for entry in entry_points(group=GROUP):
        try:
            sink: Sink = entry.load()(settings)
            if found.setdefault(sink.name, sink) is not sink:
                log.error("sink_name_taken", sink=sink.name, entry=entry.value)
        except Exception:
            log.exception("sink_unusable", entry=entry.value)
    return list(found.values())
