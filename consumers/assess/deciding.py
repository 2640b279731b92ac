"""What a person's decisions do to a finding. Pure. Facts win: no decision keeps a finding open whose last place was resolved."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from consumers.assess.memory import FindingMemory
from schemas.events.base import Event
from schemas.events.findings import Decision, DecisionKind, FindingStatus

FIELD_OF = {DecisionKind.ASSIGN: "assignment", DecisionKind.COMMENT: "comment", DecisionKind.EDIT: "edit"}
"""Where the memory keeps a kind of decision; any other speaks of the finding as a whole and is kept as `standing`."""
STATUS_OF = {
    DecisionKind.ACCEPT: FindingStatus.ACCEPTED,
    DecisionKind.SUPPRESS: FindingStatus.SUPPRESSED,
    DecisionKind.FALSE_POSITIVE: FindingStatus.FALSE_POSITIVE,
}
REMEMBERED = 16
SLOTS = ("", "|standing", "|assign", "|comment", "|edit")
"""What may follow the finding id in the key of a decision's record (`schemas.ids.decision_key`); nothing, for those who key by it alone."""


def decide(memory: FindingMemory, decision: Decision) -> None:
    """Take in a decision; one of the last that were taken in changes nothing.

    Accept, suppress and false positive set the status until another of them, true positive, reopen or their expiry. An edit sets the risk
    until another edit, reopen or its expiry. Comment and assignment leave both as they are.
    """
    if decision.decision_id in memory.applied:
        return
    memory.applied = (*memory.applied, decision.decision_id)[-REMEMBERED:]
    if decision.kind is DecisionKind.EDIT and decision.risk is None:
        return
    setattr(memory, FIELD_OF.get(decision.kind, "standing"), decision)
    if decision.kind is DecisionKind.REOPEN:
        memory.edit = None


def decide_anew(memory: FindingMemory, table: Mapping[str, Event]) -> None:
    """Count the decisions whose records stand, and no others: for a finding that is new, or when a record was deleted.

    The table may be ahead of the records handed over. None is marked as taken in, so that these still count, in the order of the log.
    """
    found = (table.get(f"{memory.finding_id}{slot}") for slot in SLOTS)
    known = [one for one in found if isinstance(one, Decision) and one.finding_id == memory.finding_id]
    memory.standing = memory.edit = memory.assignment = memory.comment = None
    memory.applied = ()
    for decision in sorted(known, key=lambda one: (one.decided_at, one.decision_id)):
        decide(memory, decision)
    memory.applied = ()


def expire(memory: FindingMemory) -> None:
    """Forget decisions whose time is over."""
    memory.standing = unexpired(memory.standing, memory.now)
    memory.edit = unexpired(memory.edit, memory.now)
    memory.assignment = unexpired(memory.assignment, memory.now)
    memory.comment = unexpired(memory.comment, memory.now)


def unexpired(decision: Decision | None, now: datetime) -> Decision | None:
    """The decision, if it still counts."""
    return None if decision and decision.expires_at and decision.expires_at <= now else decision


def expiries(memory: FindingMemory) -> list[datetime]:
    """When the decisions that count will end."""
    known = (memory.standing, memory.edit, memory.assignment, memory.comment)
    return [one.expires_at for one in known if one and one.expires_at]


def in_force(memory: FindingMemory) -> Decision | None:
    """The decision that a reader is shown: the later one of those that set the status and the risk."""
    return max((one for one in (memory.standing, memory.edit) if one), key=lambda one: one.decided_at, default=None)


def status_of(memory: FindingMemory) -> FindingStatus:
    """The status that facts and decisions give."""
    if memory.worst() is None:
        return FindingStatus.RESOLVED
    return STATUS_OF.get(memory.standing.kind, FindingStatus.OPEN) if memory.standing else FindingStatus.OPEN
