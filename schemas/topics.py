"""The one table of topics: name, what is in it, how it is keyed, kept and divided. Everything else asks here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from schemas.events.assets import AssetChange, AssetState, SubnetLooks
from schemas.events.base import Event
from schemas.events.context import InventoryRecord
from schemas.events.findings import Decision, Exposure, Finding, ModelExchange, Page
from schemas.events.grants import Command, Grant
from schemas.events.intel import IntelRecord
from schemas.events.observations import HostObservation, SweepResult
from schemas.events.operations import AgentStatus, AuditRecord, Rollup, Tick
from schemas.events.targets import Campaign, Run, TargetRequest, WorkUnit
from schemas.events.touches import Touches

DAY_MS = 86_400_000
Cleanup = Literal["compact", "delete", "compact,delete"]


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic. `single`: one partition, read whole by whoever needs it. `json`: the value is JSON text, not Avro."""

    name: str
    events: tuple[type[Event], ...]
    key: str
    cleanup: Cleanup
    written_by: str
    read_by: str
    retention_ms: int | None = None
    single: bool = False
    json: bool = False
    per_zone: bool = False

    @property
    def dlq(self) -> str:
        """Where records of this topic go that can't be handled."""
        return f"dlq.{self.name}"

    def partitions(self, default: int) -> int:
        """How many partitions the topic has where the rest has `default`."""
        return 1 if self.single else default


TOPICS: tuple[Topic, ...] = (
    Topic("grants", (Grant,), "grant id", "compact", "CLI, console", "planner, scanner, archiver", single=True),
    Topic("campaigns", (Campaign,), "campaign id", "compact", "CLI, console, API", "scheduler", single=True),
    Topic("inventory", (InventoryRecord,), "network or asset", "compact", "CMDB, a file, anyone", "correlator, archiver", single=True),
    Topic("intel", (IntelRecord,), "CVE id", "compact", "intel, CLI", "correlator, archiver, intel", single=True),
    Topic("decisions", (Decision,), "finding id|slot, or finding id", "compact", "CLI, console, SOAR", "assessor, archiver", single=True),
    Topic("commands", (Command,), "agent id, and the network of a freeze", "compact", "CLI, console", "scanner, archiver", single=True),
    Topic("targets", (TargetRequest,), "any or none", "delete", "CLI, scheduler, scanner, differ, assessor, anyone", "planner", 7 * DAY_MS),
    Topic("runs", (Run,), "run id", "compact,delete", "planner", "console, archiver, reconciler, anyone", 30 * DAY_MS),
    Topic("work", (WorkUnit,), "subnet", "delete", "planner", "scanners of that zone", DAY_MS, per_zone=True),
    Topic("probes", (SweepResult, HostObservation), "subnet", "delete", "scanner, CLI", "differ, archiver, reconciler", 7 * DAY_MS),
    Topic("touches", (Touches,), "subnet", "delete", "scanner", "archiver, reconciler", 7 * DAY_MS),
    Topic("assets", (AssetState, SubnetLooks), "asset, or subnet", "compact", "differ", "differ, archiver, reconciler"),
    Topic(
        "changes",
        (AssetChange,),
        "asset, partitioned by subnet",
        "delete",
        "differ",
        "correlator, rollups, archiver, reconciler, anyone",
        7 * DAY_MS,
    ),
    Topic("exposures", (Exposure,), "finding id", "delete", "correlator", "assessor, archiver, reconciler", 7 * DAY_MS),
    Topic("findings", (Finding,), "finding id", "compact", "assessor", "assessor, archiver, reconciler, notifier, SOC, anyone"),
    Topic("findings.ocsf", (), "finding id", "compact", "notifier", "SOC", json=True),
    Topic("pages", (Page,), "finding id", "delete", "notifier", "notifier", 7 * DAY_MS, single=True),
    Topic("exchanges", (ModelExchange,), "content hash, partitioned by finding id", "compact", "assessor", "assessor"),
    Topic("agents", (AgentStatus,), "agent id", "compact,delete", "scanner", "console, rollups, archiver, reconciler", 7 * DAY_MS),
    Topic("enrolments", (), "agent id", "delete", "an agent that joins", "CLI", DAY_MS, single=True),
    Topic("rollups", (Rollup,), "name and zone", "delete", "rollups", "archiver, reconciler, anyone", 7 * DAY_MS),
    Topic("ticks", (Tick,), "partition", "delete", "scheduler", "differ, correlator, assessor", DAY_MS),
    Topic("state.correlator", (), "as the role's input", "compact", "correlator", "correlator"),
    Topic("state.assessor", (), "as the role's input", "compact", "assessor", "assessor"),
    Topic("state.notifier", (), "as the role's input", "compact", "notifier", "notifier"),
    Topic("state.scheduler", (), "campaign id", "compact", "scheduler", "scheduler", single=True),
    Topic("audit", (AuditRecord,), "actor", "delete", "CLI, console", "archiver, reconciler", 365 * DAY_MS),
)
BY_NAME = {topic.name: topic for topic in TOPICS}
DLQ_RETENTION_MS = 30 * DAY_MS


def topic_named(name: str) -> Topic:
    """The table's row for a topic; `work.<zone>` finds the row of `work`. Raises KeyError for what is not in the table."""
    return BY_NAME["work"] if name.startswith("work.") else BY_NAME[name]


def work_topic(zone: str) -> str:
    """The topic that a zone's scanners read."""
    return f"work.{zone}"


def concrete_names(topic: Topic, zones: tuple[str, ...]) -> tuple[str, ...]:
    """The topics that a row stands for: itself, or one a zone."""
    return tuple(work_topic(zone) for zone in zones) if topic.per_zone else (topic.name,)
