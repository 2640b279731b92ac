"""Records that can't be handled: set aside with the reason, listed and replayed by a command."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version

from confluent_kafka import Message, Producer

from infra.core.errors import DriftlineError
from infra.core.settings import Settings
from infra.kafka.client import prefixed, value_of

CODE_VERSION = version("driftline")


class FuseBlown(DriftlineError):
    """Most records were bad: the role stops rather than set everything aside. The supervisor does not restart it."""

    exit_code = 5


@dataclass(slots=True)
class Fuse:
    """Trips when more than half of the last 100 records were bad (never before 50 were seen)."""

    recent: int = 0
    seen: int = 0
    _bits: int = 0

    def note(self, bad: bool) -> None:
        """Count one record."""
        self._bits = (self._bits << 1 | bad) & (1 << 100) - 1
        self.recent = self._bits.bit_count()
        self.seen += 1

    def note_all(self, verdicts: Sequence[bool]) -> None:
        """Count many records in their order; True stands for a bad one. Only the last hundred can matter."""
        self.seen += max(0, len(verdicts) - 100)
        for bad in verdicts[-100:]:
            self.note(bad)

    def blown(self) -> bool:
        """Whether the role should stop."""
        return self.seen >= 50 and self.recent * 2 > min(self.seen, 100)


def dead_letter(producer: Producer, settings: Settings, message: Message, topic: str, error: Exception) -> None:
    """Put a record's raw bytes on `dlq.<topic>`, in the producer's open transaction if it has one, with where it was and why."""
    headers: list[tuple[str, str | bytes | None]] = [
        ("source.topic", topic.encode()),
        ("source.partition", str(message.partition()).encode()),
        ("source.offset", str(message.offset()).encode()),
        ("error.class", type(error).__name__.encode()),
        ("error.reason", str(error)[:2000].encode()),
        ("code.version", CODE_VERSION.encode()),
    ]
    queue = prefixed(settings, f"dlq.{topic}")
    while True:
        try:
            producer.produce(queue, value_of(message), message.key(), message.partition() or 0, headers=headers)
            return
        except BufferError:
            producer.poll(0.1)
