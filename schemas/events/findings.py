"""What matters: exposures at a place, and the findings that they add up to."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from schemas.events.base import Event, Risk, Timestamp, Transport


class Place(Event):
    """Where an exposure is: an asset and, unless 0, a port."""

    zone: str
    address: str
    port: int = Field(0, ge=0, le=65535)
    transport: Transport = Transport.TCP
    names: tuple[str, ...] = ()


class FiredRule(Event):
    """A rule that fired: what it looked at, what it did to the risk, and where it is from."""

    rule: str
    effect: str = Field(description="in words: 'base 80', '+10', 'floor 60'")
    input: str = Field(description="what it looked at, in words")
    source: str


class ExposureEvent(StrEnum):
    """What became of an exposure."""

    OPENED = "opened"
    CHANGED = "changed"
    RESOLVED = "resolved"


class Exposure(Event):
    """A rule's judgement of one place. The subject names what is exposed; equal subjects under one rule make one finding."""

    exposure_id: str
    finding_id: str
    event: ExposureEvent
    revision: int
    rule: str
    subject: str
    title: str
    why: str
    action: str
    place: Place
    base_risk: Risk
    floor: Risk
    ceiling: Risk
    rules: tuple[FiredRule, ...]
    cves: tuple[str, ...] = ()
    owner: str = ""
    criticality: str = ""
    tags: tuple[str, ...] = ()
    evidence_ids: tuple[str, ...]
    evidence: str = Field("", description="what was seen, capped; hostile input")
    observed_at: Timestamp
    baseline: bool = Field(False, description="it stood already at the first look at its port, and is not known to be exploited")


class FindingStatus(StrEnum):
    """Open until resolved; a person may accept, suppress, or call it a false positive."""

    OPEN = "open"
    ACCEPTED = "accepted"
    SUPPRESSED = "suppressed"
    FALSE_POSITIVE = "false_positive"
    RESOLVED = "resolved"


class Rank(StrEnum):
    """Five levels of urgency from the final risk: ≥ 85, ≥ 65, ≥ 40, ≥ 15, below."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"
    INFO = "info"


class DecisionKind(StrEnum):
    """What a person may say of a finding."""

    ACCEPT = "accept"
    SUPPRESS = "suppress"
    FALSE_POSITIVE = "false_positive"
    TRUE_POSITIVE = "true_positive"
    ASSIGN = "assign"
    COMMENT = "comment"
    REOPEN = "reopen"
    EDIT = "edit"


class Decision(Event):
    """A person's word on a finding. `risk` is for `edit`, `assignee` for `assign`; it ends at `expires_at`."""

    decision_id: str
    finding_id: str
    kind: DecisionKind
    reason: str = ""
    assignee: str = ""
    risk: Risk | None = None
    expires_at: Timestamp | None = None
    decided_by: str
    decided_at: Timestamp


class ReviewStatus(StrEnum):
    """Where the model's review stands. `none`: no model is configured. `failed`: the finding stands as the rules wrote it."""

    NONE = "none"
    PENDING = "pending"
    DONE = "done"
    FAILED = "failed"


class Review(Event):
    """What the model added, and which exchange it came from."""

    status: ReviewStatus = ReviewStatus.NONE
    content_hash: str = Field("", description="hash of what the model is to be shown; a new one asks for a new review")
    model: str = ""
    prompt_hash: str = ""
    explanation: str = ""
    note: str = ""
    action: str = Field("", description="what the model would do; `action` of the finding is the rules' word")
    evidence_ids: tuple[str, ...] = Field((), description="what the explanation relies on")


class Finding(Event):
    """What a SOC works on. `risk` is final: the rules' base risk, moved by the model or a person within floor and ceiling."""

    finding_id: str
    revision: int
    status: FindingStatus
    zone: str
    rule: str
    subject: str
    title: str
    why: str
    action: str
    places: tuple[Place, ...]
    base_risk: Risk
    floor: Risk
    ceiling: Risk
    risk: Risk
    rank: Rank
    rationale: str
    rules: tuple[FiredRule, ...]
    cves: tuple[str, ...] = ()
    owner: str = ""
    criticality: str = ""
    tags: tuple[str, ...] = ()
    evidence_ids: tuple[str, ...]
    decision: Decision | None = Field(None, description="the decision that set the status or the risk, while it counts")
    assignee: str = Field("", description="who works on it")
    comment: Decision | None = Field(None, description="the last remark")
    review: Review = Review()
    reopened: int = 0
    first_seen: Timestamp
    changed_at: Timestamp
    resolved_at: Timestamp | None = None
    baseline: bool = Field(False, description="it is at no place where it is newer than the first look there, or known to be exploited")


class PageKind(StrEnum):
    """Why someone is told of a finding: it calls for attention, more than before, or no longer."""

    RAISED = "raised"
    WORSE = "worse"
    OVER = "over"


class Page(Event):
    """One thing to tell the receiver of a webhook. The id is a hash of webhook, finding, revision and kind."""

    page_id: str
    webhook: str
    kind: PageKind
    finding: Finding


class ModelExchange(Event):
    """What a model was asked about a finding and what it answered, kept before the answer is used. Keyed by content hash."""

    content_hash: str
    finding_id: str
    model: str
    prompt_hash: str
    asked: str
    answered: str = ""
    ok: bool
    risk: Risk | None = None
    explanation: str = ""
    evidence_ids: tuple[str, ...] = ()
    follow_ups: tuple[str, ...] = ()
    error: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    latency_ms: int = 0
    asked_at: Timestamp
    action: str = ""
    calls: int = Field(1, ge=0, description="questions that were put, the retry included")
    cost: float = Field(0.0, ge=0, description="by the prices in the settings, in their currency")
