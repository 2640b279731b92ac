"""Tells on `agents` that this scanner lives and what it does: every five seconds, and when its state or its partitions change."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.metadata import version

from confluent_kafka import TIMESTAMP_LOG_APPEND_TIME, KafkaError, Message, Producer

from infra.core.clock import SteadyClock, uptime
from infra.core.settings import Settings
from infra.kafka.client import prefixed, producer_config
from infra.kafka.timestamps import EPOCH
from schemas.codec import Codec
from schemas.events.operations import AgentState, AgentStatus
from schemas.ids import partition_of

EVERY_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Identity:
    """What does not change while a scanner runs."""

    agent_id: str
    zone: str
    engine: str
    capabilities: tuple[str, ...]
    started_at: datetime


@dataclass(frozen=True, slots=True)
class Progress:
    """What a heartbeat tells. Counters count from the start."""

    state: AgentState
    partitions: tuple[int, ...] = ()
    units_running: int = 0
    units_done: int = 0
    packets_sent: int = 0
    packets_refused: int = 0
    control_packets: int = 0


class Heartbeat:
    """Sends AgentStatus without a transaction: it must also leave while a unit's transaction can't be committed.

    `drops` counts heartbeats that the broker did not take. The clock offset (positive: our clock is ahead) is our clock at the middle
    between sending and acknowledgement, less the broker's append time.
    """

    def __init__(self, settings: Settings, identity: Identity, codec: Codec, clock: SteadyClock) -> None:
        self._settings, self._identity, self._codec, self._clock = settings, identity, codec, clock
        self._producer = Producer(producer_config(settings, **{"message.timeout.ms": 5000, "queue.buffering.max.messages": 1000}))
        self._due = float("-inf")
        self._last: tuple[AgentState, tuple[int, ...]] | None = None
        self._offset_ms = 0
        self._drops = 0

    def beat(self, progress: Progress) -> None:
        """Send a heartbeat if one is due. Never waits."""
        self._producer.poll(0)
        changed = self._last != (progress.state, progress.partitions)
        if uptime() < self._due and not changed:
            return
        self._due = uptime() + EVERY_SECONDS
        self._last = (progress.state, progress.partitions)
        self._send(progress)

    def close(self, progress: Progress) -> None:
        """Say goodbye; waits at most a second for the broker to hear it."""
        self._send(progress)
        self._producer.flush(1.0)

    def _send(self, progress: Progress) -> None:
        sent_at, me = self._clock.wall(), self._identity
        status = AgentStatus(
            agent_id=me.agent_id,
            zone=me.zone,
            state=progress.state,
            version=version("driftline"),
            engine=me.engine,
            capabilities=me.capabilities,
            partitions=progress.partitions,
            units_running=progress.units_running,
            units_done=progress.units_done,
            packets_sent=progress.packets_sent,
            packets_refused=progress.packets_refused,
            control_packets=progress.control_packets,
            drops=self._drops,
            clock_offset_ms=self._offset_ms,
            started_at=me.started_at,
            at=self._clock.now(),
        )

        def delivered(error: KafkaError | None, message: Message) -> None:
            if error is not None:
                self._drops += 1
                return
            kind, appended = message.timestamp()
            if kind == TIMESTAMP_LOG_APPEND_TIME:
                ahead = self._clock.heard(sent_at, EPOCH + timedelta(milliseconds=appended))
                self._offset_ms = round(ahead / timedelta(milliseconds=1))

        partition = partition_of(me.agent_id, self._settings.kafka.partitions)
        value = self._codec.encode("agents", status)
        try:
            self._producer.produce(prefixed(self._settings, "agents"), value, me.agent_id.encode(), partition, on_delivery=delivered)
        except BufferError:
            self._drops += 1
