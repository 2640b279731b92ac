"""The pipeline about itself."""

from __future__ import annotations

from enum import StrEnum

from schemas.events.base import Event, Timestamp


class AgentState(StrEnum):
    """What an agent is doing."""

    STARTING = "starting"
    WORKING = "working"
    IDLE = "idle"
    DRAINING = "draining"
    DRAINED = "drained"
    STOPPED = "stopped"


class AgentStatus(Event):
    """A scanner's registration and heartbeat. Counters count from the agent's start."""

    agent_id: str
    zone: str
    state: AgentState
    version: str
    engine: str
    capabilities: tuple[str, ...]
    partitions: tuple[int, ...] = ()
    units_running: int = 0
    units_done: int = 0
    packets_sent: int = 0
    packets_refused: int = 0
    control_packets: int = 0
    drops: int = 0
    clock_offset_ms: int = 0
    started_at: Timestamp
    at: Timestamp


class Tick(Event):
    """A minute that passed. Time enters a fold only through records; this one says that nothing else may happen any more."""

    partition: int
    minute: Timestamp


class AuditRecord(Event):
    """A write by a person: who did what to what, when, from where."""

    audit_id: str
    actor: str
    action: str
    subject: str
    detail: str = ""
    origin: str
    at: Timestamp


class Rollup(Event):
    """A figure over a window of time that can be computed again from the log, e.g. changes a minute in a zone."""

    name: str
    zone: str
    kind: str
    window_start: Timestamp
    window_seconds: int
    count: int
    value: float
