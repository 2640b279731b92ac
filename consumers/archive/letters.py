"""Records that are set aside: counted as done only when Kafka has them on their DLQ."""

from __future__ import annotations

from confluent_kafka import KafkaError, Message, Producer

from infra.core.errors import MissingPrerequisite
from infra.core.settings import Settings
from infra.kafka.client import producer_config
from infra.kafka.deadletters import dead_letter

FLUSH_SECONDS = 30.0


class DeadLetters:
    """Sends records to their DLQ. `flush` before the offsets behind them are committed."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._producer = Producer(producer_config(settings, on_delivery=self._delivered))
        self._failed = ""

    def add(self, message: Message, topic: str, error: Exception) -> None:
        """Set one record of `topic` (its name without prefix) aside with the reason. Raises MissingPrerequisite like `flush`."""
        try:
            dead_letter(self._producer, self._settings, message, topic, error)
        except BufferError:
            self.flush()
            dead_letter(self._producer, self._settings, message, topic, error)

    def flush(self) -> None:
        """Wait until Kafka has them all. Raises MissingPrerequisite if it does not take them."""
        left = self._producer.flush(FLUSH_SECONDS) if len(self._producer) else 0
        if left or self._failed:
            raise MissingPrerequisite(
                f"Bad records could not be put on their DLQ ({self._failed or 'time ran out'}).",
                "See the broker's log; if a topic is unknown, run 'driftline topics apply'.",
            )

    def _delivered(self, error: KafkaError | None, _: Message) -> None:
        if error is not None:
            self._failed = error.str()
