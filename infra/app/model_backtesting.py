"""Puts questions that `exchanges` holds again, to another model or with another prompt. It writes nothing, and commits no offset."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from consumers.assess.comparing import Pair
from consumers.assess.prompting import SYSTEM, checked, content_hash
from consumers.assess.reviewer import Reviewer
from infra.app.backtesting import read_labels
from infra.core.errors import BadInput
from infra.core.model_settings import ModelSettings
from infra.core.settings import Settings
from infra.kafka.client import read_table
from infra.kafka.registry import codec_for
from schemas.events.findings import Finding, ModelExchange, Review, ReviewStatus


@dataclass(frozen=True, slots=True)
class ModelBacktest:
    """The questions that were put again, what people said of their findings, and how many questions could not be put, by reason."""

    pairs: tuple[Pair, ...]
    labels: dict[str, bool]
    left_out: dict[str, int]


def backtest_model(
    settings: Settings, model: str | None, prompt: str, most: int, told: Callable[[str], None] = lambda _: None
) -> ModelBacktest:
    """Ask the latest `most` stored questions anew. A question whose answer is by this model and prompt already is not asked.

    Raises BadInput if no model is named, MissingPrerequisite if Kafka does not answer.
    """
    chosen = endpoint_of(settings.model, model)
    codec = codec_for(settings)
    exchanges = [one for one in read_table(settings, "exchanges", codec).values() if isinstance(one, ModelExchange)]
    findings = {key: one for key, one in read_table(settings, "findings", codec).items() if isinstance(one, Finding)}
    standing, left_out = asked_again(exchanges, findings)
    latest = sorted(standing, key=lambda one: one[1].asked_at, reverse=True)
    if len(latest) > most:
        left_out["beyond --most"] = len(latest) - most
    reviewer = Reviewer(chosen, system=prompt)
    same = {one.content_hash for _, one in latest if one.ok and (one.model, one.prompt_hash) == (chosen.name, reviewer.prompt_hash)}
    questions = [(finding, before) for finding, before in latest[:most] if before.content_hash not in same]
    told(f"{len(exchanges)} stored exchanges, {len(questions)} questions to put to {chosen.name}")
    answers = asyncio.run(reviewer.review_all(finding for finding, _ in questions))
    pairs = [Pair(finding, before, after) for (finding, before), after in zip(questions, answers, strict=True)]
    pairs += [Pair(finding, before, before) for finding, before in latest[:most] if before.content_hash in same]
    return ModelBacktest(tuple(pairs), read_labels(settings, codec), left_out)


def asked_again(exchanges: list[ModelExchange], findings: dict[str, Finding]) -> tuple[list[tuple[Finding, ModelExchange]], dict[str, int]]:
    """The stored questions that their findings still ask, and how many are not, by reason."""
    found: list[tuple[Finding, ModelExchange]] = []
    left_out: dict[str, int] = {}
    for one in exchanges:
        finding = findings.get(one.finding_id)
        if finding is None or content_hash(finding) != one.content_hash:
            reason = "its finding is gone" if finding is None else "its finding says something else by now"
            left_out[reason] = left_out.get(reason, 0) + 1
            continue
        review = Review(status=ReviewStatus.PENDING, content_hash=one.content_hash)
        found.append((finding.model_copy(update={"review": review}), one))
    return found, left_out


def endpoint_of(settings: ModelSettings, model: str | None) -> ModelSettings:
    """The settings for this model alone: those of an endpoint of this name, else the first one's address and key."""
    name = model or settings.name
    if not name:
        raise BadInput("No model is named.", "Give --model, or set DRIFTLINE_MODEL__NAME.")
    known = next((one for one in settings.endpoints if one.name == name), settings)
    over = {one: getattr(known, one) for one in ("base_url", "api_key", "input_price", "output_price")}
    return settings.model_copy(update={**over, "name": name, "fallback": None})


def read_prompt(file: Path | None) -> str:
    """The prompt of a file, or the one in force. Raises BadInput if it can't be read or filled in."""
    if file is None:
        return SYSTEM
    try:
        return checked(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"The prompt in {file} can't be read: {error}.", "Name a text file.") from None
