"""What may be taken from a model's answer. Pure: the answer is as untrusted as the data that it was given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from consumers.assess.prompting import LIST_LIMIT
from consumers.assess.ranking import by_model
from schemas.events.findings import Finding
from schemas.wording import what_is_wrong

EXPLANATION_LIMIT = 2000
FOLLOW_UPS = 5
FOLLOW_UP = re.compile(r"tcp/([1-9][0-9]{0,4})@([0-9A-Fa-f.:]{2,45})")


class Answer(BaseModel):
    """The review of one finding."""

    model_config = ConfigDict(extra="ignore")

    risk: float = Field(allow_inf_nan=False, description="the risk, 0 to 100")
    explanation: str = Field(description="plain sentences for an analyst")
    evidence_ids: list[str] = Field(description="evidence ids that the answer relies on, as given")
    follow_ups: list[str] = Field(default_factory=list, description="tcp/<port>@<address> of the finding's own addresses; usually none")


@dataclass(frozen=True, slots=True)
class FollowUp:
    """A port that the model would like to have looked at."""

    port: int
    address: str

    def __str__(self) -> str:
        return f"tcp/{self.port}@{self.address}"


@dataclass(frozen=True, slots=True)
class Accepted:
    """What is left of an answer: the risk within the rules' bounds, and only what the finding knows."""

    risk: float
    explanation: str
    evidence_ids: tuple[str, ...]
    follow_ups: tuple[FollowUp, ...]


class UnusableAnswerError(ValueError):
    """The answer can't be used; the message says why."""


def accept(plain: Any, finding: Finding) -> Accepted:
    """Check an answer against the finding that it is about. Raises UnusableAnswerError with the reason."""
    try:
        answer = Answer.model_validate(plain)
    except ValidationError as error:
        raise UnusableAnswerError(what_is_wrong(error, "the answer")) from None
    given = finding.evidence_ids[:LIST_LIMIT]
    invented = [one for one in answer.evidence_ids if one not in given]
    if invented:
        raise UnusableAnswerError(f"it cites evidence that does not exist: {words(invented[0], 60)!r}")
    if given and not answer.evidence_ids:
        raise UnusableAnswerError("it cites no evidence")
    explanation = words(answer.explanation, EXPLANATION_LIMIT)
    if not explanation:
        raise UnusableAnswerError("it explains nothing")
    return Accepted(
        risk=by_model(answer.risk, finding.base_risk, finding.floor, finding.ceiling),
        explanation=explanation,
        evidence_ids=tuple(dict.fromkeys(answer.evidence_ids)),
        follow_ups=follow_ups(answer.follow_ups, finding),
    )


def follow_ups(asked: list[str], finding: Finding) -> tuple[FollowUp, ...]:
    """The wishes that keep to the grammar and to the finding's own addresses; all others are dropped."""
    own = {place.address for place in finding.places}
    found: dict[FollowUp, None] = {}
    for text in asked:
        match = FOLLOW_UP.fullmatch(text)
        if match and int(match[1]) <= 65535 and match[2] in own:
            found[FollowUp(int(match[1]), match[2])] = None
    return tuple(found)[:FOLLOW_UPS]


def words(text: str, limit: int) -> str:
    """Text for a person: printable characters on one line, capped."""
    return " ".join("".join(one if one.isprintable() else " " for one in text[: limit * 2]).split())[:limit]
