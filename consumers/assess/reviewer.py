"""Asks the model about findings. Whatever goes wrong becomes an exchange that says so; nothing here raises for a bad model."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from consumers.assess.answering import Answer, UnusableAnswerError, accept, words
from consumers.assess.budget import Budgets, budgets_of
from consumers.assess.prompting import PROMPT_HASH, Prompt, build
from infra.core.settings import ModelSettings
from schemas.events.findings import Finding, ModelExchange

log = structlog.get_logger()
ATTEMPTS = 2
ANSWER_LIMIT = 8000
REMEMBERED = 1000


@dataclass(slots=True)
class Talk:
    """What was said in one exchange, over all attempts."""

    began: float
    answered: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    error: str = ""
    good: dict[str, Any] = field(default_factory=dict)


class Reviewer:
    """Asks at most `parallel` questions at once, each with one retry, a timeout, and a budget of calls an hour.

    Good answers are remembered by content hash, so that the same question is not paid for twice.
    """

    def __init__(self, settings: ModelSettings, clock: Callable[[], float] = time.monotonic, budgets: Budgets | None = None) -> None:
        self._settings, self._clock = settings, clock
        self._budgets = budgets or budgets_of(settings, clock)
        self._slots = asyncio.Semaphore(settings.parallel)
        self._known: OrderedDict[str, ModelExchange] = OrderedDict()
        self._chat: Any = None

    async def review_all(self, findings: Iterable[Finding]) -> list[ModelExchange]:
        """One exchange for each finding, in their order."""
        return list(await asyncio.gather(*(self._review(one) for one in findings)))

    async def _review(self, finding: Finding) -> ModelExchange:
        known = self._known.get(finding.review.content_hash)
        if known is not None:
            return known
        async with self._slots:
            exchange = await self._ask(finding)
        if exchange.ok:
            self._known[exchange.content_hash] = exchange
            if len(self._known) > REMEMBERED:
                self._known.popitem(last=False)
        else:
            log.warning("review_failed", finding=finding.finding_id, reason=exchange.error)
        return exchange

    async def _ask(self, finding: Finding) -> ModelExchange:
        prompt, talk = build(finding, secrets.token_hex(8)), Talk(began=self._clock())
        asked_at = datetime.now(UTC)
        for _ in range(ATTEMPTS):
            if not self._budgets.calls.take():
                talk.error = f"over the budget of {self._settings.calls_per_hour} calls an hour"
                break
            if await self._attempt(prompt, finding, talk):
                break
        return ModelExchange(
            content_hash=finding.review.content_hash,
            finding_id=finding.finding_id,
            model=self._settings.name or "",
            prompt_hash=PROMPT_HASH,
            asked=f"{prompt.system}\n\n{prompt.user}",
            answered=talk.answered,
            ok=bool(talk.good),
            error=talk.error,
            input_tokens=talk.input_tokens,
            output_tokens=talk.output_tokens,
            latency_ms=int((self._clock() - talk.began) * 1000),
            asked_at=asked_at,
            **talk.good,
        )

    async def _attempt(self, prompt: Prompt, finding: Finding, talk: Talk) -> bool:
        """One call; True if its answer can be used. What it said, and what was wrong with it, is in `talk`."""
        try:
            if self._chat is None:  # apart from the timeout, since the import alone takes seconds
                self._chat = await asyncio.to_thread(chat_model, self._settings)
            plain = await asyncio.wait_for(self._invoke(prompt, talk), self._settings.timeout)
            accepted = accept(plain, finding)
        except TimeoutError:
            talk.error = f"no answer within {self._settings.timeout:g} s"
        except UnusableAnswerError as error:
            talk.error = f"the answer can't be used: {error}"
        except Exception as error:  # noqa: BLE001  each provider raises its own errors, and none may stop the loop
            talk.error = self._without_key(f"{type(error).__name__}: {words(str(error), 300)}")
        else:
            talk.error = ""
            talk.good = {
                "risk": accepted.risk,
                "explanation": accepted.explanation,
                "evidence_ids": accepted.evidence_ids,
                "follow_ups": tuple(str(one) for one in accepted.follow_ups if self._budgets.follow_ups.take()),
            }
        return bool(talk.good)

    async def _invoke(self, prompt: Prompt, talk: Talk) -> Any:
        """The answer as plain data. A JSON schema, not a class: with a class some providers raise away the raw answer that we keep."""
        result = await self._chat.ainvoke([("system", prompt.system), ("user", prompt.user)])
        raw = result["raw"]
        usage = getattr(raw, "usage_metadata", None) or {}
        talk.input_tokens += int(usage.get("input_tokens", 0))
        talk.output_tokens += int(usage.get("output_tokens", 0))
        talk.answered = str(raw.content)[:ANSWER_LIMIT]
        if result["parsing_error"] is not None:
            raise UnusableAnswerError("it is not the JSON that was asked for")
        return result["parsed"]

    def _without_key(self, text: str) -> str:
        key = self._settings.api_key.get_secret_value() if self._settings.api_key else ""
        return text.replace(key, "***") if key else text


def chat_model(settings: ModelSettings) -> Any:
    """The configured model, answering by schema. LangChain costs seconds to import, so only who asks a model imports it."""
    from langchain.chat_models import init_chat_model

    options: dict[str, Any] = {"timeout": settings.timeout, "max_retries": 0}
    if settings.base_url:
        options["base_url"] = settings.base_url
    if settings.api_key:
        options["api_key"] = settings.api_key.get_secret_value()
    elif settings.base_url:
        options["api_key"] = "none"  # local servers want none, clients insist on one
    return init_chat_model(settings.name, **options).with_structured_output(Answer.model_json_schema(), include_raw=True)
