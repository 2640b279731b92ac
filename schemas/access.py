"""What each role may do on a Kafka cluster: topics from the topic table, and the names of its groups and transactions. Pure.

Deny by default: a right that is not here is not given. Who reads and writes a topic stands in the topic table; people and programs
outside are roles too: `operator` (the command line), `soc` (SOC tooling), `anyone` (who pushes targets and reads what came of them),
and `joining` (a machine with an enrolment token, which may only answer it).
A role that reads a topic record by record may write its dead letter queue. Kafka knows no rights inside a topic: a scanner that may write
`probes` could write them for another zone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from schemas.topics import TOPICS, Topic, concrete_names

Kind = Literal["topic", "group", "transactional_id"]
Operation = Literal["READ", "WRITE", "CREATE"]

ROLES = ("scheduler", "planner", "scanner", "differ", "correlator", "assessor", "archiver", "notifier", "rollups", "reconciler", "intel")
PEOPLE = ("operator", "soc", "anyone", "joining")
WORDS = {
    **{name: name for name in (*ROLES, *PEOPLE)},
    "scanners of that zone": "scanner",
    "CLI": "operator",
    "console": "operator",
    "API": "operator",
    "a file": "operator",
    "CMDB": "anyone",
    "SOC": "soc",
    "SOAR": "soc",
    "an agent that joins": "joining",
}
"""Whom the words in the topic table's columns `written_by` and `read_by` mean."""

# A name that ends with * stands for all that begin so.
GROUPS: dict[str, tuple[str, ...]] = {
    "scheduler": ("scheduler", "read-whole"),
    "planner": ("planner", "tables"),
    "differ": ("differ", "restore"),
    "correlator": ("correlator", "restore", "tables"),
    "assessor": ("assessor", "assessor-review", "restore", "tables"),
    "archiver": ("archiver", "archiver-findings", "sink-*"),
    "notifier": ("notifier", "notifier.*", "restore"),
    "rollups": ("rollups",),
    "reconciler": ("reconciler",),
    "intel": ("read-whole",),
    "operator": ("read-whole", "follow", "dlq-replay", "dlq-replay.*"),
    "soc": ("outside.*",),
    "anyone": ("outside.*",),
}
TRANSACTIONS: dict[str, tuple[str, ...]] = {
    **{name: (f"{name}-*",) for name in ("scheduler", "planner", "differ", "correlator", "assessor", "intel")},
    "notifier": ("notifier-*", "notifier.*"),
    "operator": ("dlq-replay.*", "intel-*"),
}
FAUST_CHANGELOG = "rollups-samples-changelog"
"""Faust makes this topic itself, for its table of the rollups."""
ONE_BY_ONE = frozenset({"scheduler", "archiver", "notifier"})
"""Who reads a topic of a single partition record by record, where the others read it whole and set nothing aside."""


@dataclass(frozen=True, slots=True, order=True)
class Right:
    """One thing that is allowed. `prefixed`: the name stands for every name that begins so."""

    kind: Kind
    name: str
    operation: Operation
    prefixed: bool = False


def writers(topic: Topic) -> set[str]:
    """The roles that write a topic. Raises KeyError for a word of the table that means nobody."""
    return {WORDS[word] for word in topic.written_by.split(", ")}


def readers(topic: Topic) -> set[str]:
    """The roles that read a topic. Raises KeyError for a word of the table that means nobody."""
    return {WORDS[word] for word in topic.read_by.split(", ")}


def rights(role: str, zones: tuple[str, ...], agent: str = "") -> frozenset[Right]:
    """All that a role may do. `zones`: the installation's, of a scanner only its own; `agent`: the one scanner that this is for.

    Raises KeyError for a role that there is not.
    """
    if role not in (*ROLES, *PEOPLE):
        raise KeyError(role)
    found = set(_topic_rights(role, zones))
    groups, transactions = GROUPS.get(role, ()), TRANSACTIONS.get(role, ())
    if role == "scanner":
        groups = ("scanner.authority", *(f"scanner.{zone}" for zone in zones))
        transactions = tuple(scanner_transaction(zone, agent) + "-0" if agent else scanner_transaction(zone, "*") for zone in zones)
    found |= {_named("group", name, "READ") for name in groups}
    found |= {_named("transactional_id", name, "WRITE") for name in transactions}
    return frozenset(found)


def scanner_transaction(zone: str, agent: str) -> str:
    """A scanner's transactional id before its slot: no two machines may have the same. A zone's name has no slash."""
    return f"scanner.{zone}/{agent}"


def _named(kind: Kind, name: str, operation: Operation) -> Right:
    return Right(kind, name.removesuffix("*"), operation, name.endswith("*"))


def _topic_rights(role: str, zones: tuple[str, ...]) -> Iterator[Right]:
    for topic in TOPICS:
        writes, reads = role in writers(topic), role in readers(topic)
        for name in concrete_names(topic, zones):
            private = name.startswith("state.")
            if writes or (role == "operator" and not private):  # dead letters go back to any topic
                yield Right("topic", name, "WRITE")
            if reads or role == "operator":
                yield Right("topic", name, "READ")
            if not private and role == "operator":
                yield Right("topic", f"dlq.{name}", "READ")
            elif not private and reads and role in ROLES and (not topic.single or role in ONE_BY_ONE):
                yield Right("topic", f"dlq.{name}", "READ" if role == "reconciler" else "WRITE")
    if role == "rollups":
        for operation in ("READ", "WRITE", "CREATE"):
            yield Right("topic", FAUST_CHANGELOG, operation)


def parse_role(text: str) -> tuple[str, str | None]:
    """A role as people write it: `differ`, or a scanner of one zone, `scanner@dmz`. Raises ValueError with a sentence."""
    role, _, zone = text.partition("@")
    if role not in (*ROLES, *PEOPLE) or (zone and role != "scanner"):
        raise ValueError(f"'{text}' is no role; roles are {', '.join((*ROLES, *PEOPLE))}, and of one zone scanner@ZONE")
    return role, zone or None
