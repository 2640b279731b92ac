"""Asks the model about findings. Whatever goes wrong becomes an exchange that says so; nothing here raises for a bad model."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog

from consumers.assess.answering import Answer, UnusableAnswerError, accept, words
from consumers.assess.budget import Budgets, budgets_of, guessed_tokens
from consumers.assess.chat import Chat, retry_after
from consumers.assess.prompting import SYSTEM, Prompt, build, prompt_hash
from infra.core.model_settings import ModelSettings
from schemas.events.findings import Finding, ModelExchange

log = structlog.get_logger()
ATTEMPTS = 2
MOST_WAIT = 30.0
"""A model that asks to be left alone for longer is given up for this question; until then the next model is asked."""
Each = Callable[[Finding, ModelExchange], None]


@dataclass(slots=True)
class Talk:
    """What was said in one exchange, over all attempts."""

    began: float
    model: str = ""
    answered: str = ""
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float = 0.0
    error: str = ""
    wait: float = 0.0
    good: dict[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Tally:
    """What became of questions, for `driftline status`."""

    waiting: int = 0
    answered: int = 0
    failed: int = 0
    by_fallback: int = 0


class Reviewer:
    """Asks at most `parallel` questions at once, each with one retry, a timeout, a limit of the rate, and budgets an hour.

    The retry goes to the fallback model where there is one.
    """

    def __init__(
        self,
        settings: ModelSettings,
        clock: Callable[[], float] = time.monotonic,
        budgets: Budgets | None = None,
        system: str = SYSTEM,
    ) -> None:
        self._settings, self._clock, self._system = settings, clock, system
        self.budgets = budgets or budgets_of(settings, clock)
        self._slots = asyncio.Semaphore(settings.parallel)
        schema = Answer.model_json_schema()
        self._chats = [Chat(endpoint, settings, schema) for endpoint in settings.endpoints]
        self._rests_until = [0.0 for _ in self._chats]
        self.prompt_hash = prompt_hash(system)
        self.tally = Tally()

    async def review_all(self, findings: Iterable[Finding], each: Each = lambda *_: None) -> list[ModelExchange]:
        """One exchange for each finding, in their order; `each` gets every one as soon as it is there."""
        return list(await asyncio.gather(*(self._review(one, each) for one in findings)))

    async def _review(self, finding: Finding, each: Each) -> ModelExchange:
        self.tally.waiting += 1
        try:
            async with self._slots:
                exchange = await self._ask(finding)
                each(finding, exchange)
        finally:
            self.tally.waiting -= 1
        if exchange.ok:
            self.tally.answered += 1
            self.tally.by_fallback += exchange.model != self._settings.name
        else:
            self.tally.failed += 1
            log.warning("review_failed", finding=finding.finding_id, reason=exchange.error)
        return exchange

    async def _ask(self, finding: Finding) -> ModelExchange:
        prompt, talk = build(finding, secrets.token_hex(8), self._system), Talk(began=self._clock())
        asked_at = datetime.now(UTC)
        for attempt in range(ATTEMPTS):
            number = self._whom(attempt)
            if number is None:
                talk.error = talk.error or "the model asked to be left alone"
                break
            if await self._attempt(number, prompt, finding, talk):
                break
        return ModelExchange(
            content_hash=finding.review.content_hash,
            finding_id=finding.finding_id,
            model=talk.model or self._settings.name or "",
            prompt_hash=self.prompt_hash,
            asked=f"{prompt.system}\n\n{prompt.user}",
            answered=talk.answered,
            ok=bool(talk.good),
            error=talk.error,
            calls=talk.calls,
            input_tokens=talk.input_tokens,
            output_tokens=talk.output_tokens,
            cost=round(talk.cost, 6),
            latency_ms=int((self._clock() - talk.began) * 1000),
            asked_at=asked_at,
            **talk.good,
        )

    def _whom(self, attempt: int) -> int | None:
        """The model to ask: the first one, then the next; none that asked to be left alone for long. None if that leaves none."""
        first = min(attempt, len(self._chats) - 1)
        order = [first, *(one for one in range(len(self._chats)) if one != first)]
        return next((one for one in order if self._rests_until[one] - self._clock() <= MOST_WAIT), None)

    async def _attempt(self, number: int, prompt: Prompt, finding: Finding, talk: Talk) -> bool:
        """One call; True if its answer can be used, or none more is to be made. What it said, and what was wrong with it, is in `talk`."""
        chat = self._chats[number]
        guess = guessed_tokens(prompt.system + prompt.user), float(self._settings.answer_tokens)
        call = self.budgets.begin(sum(guess), chat.endpoint.cost(*guess))
        if isinstance(call, str):
            talk.error = call
            return True
        if pause := max(self.budgets.rate.turn(), self._rests_until[number] - self._clock()):
            await asyncio.sleep(max(0.0, pause))
        talk.model, talk.calls = chat.endpoint.name or "", talk.calls + 1
        try:
            await chat.load()
            said = await chat.ask(prompt.system, prompt.user)
            talk.answered = said.text
            if said.tokens is not None:
                asked, answered = said.tokens
                talk.input_tokens, talk.output_tokens = talk.input_tokens + asked, talk.output_tokens + answered
                cost = chat.endpoint.cost(asked, answered)
                talk.cost += cost
                self.budgets.end(call, asked + answered, cost)
            if said.problem:
                raise UnusableAnswerError(said.problem)
            accepted = accept(said.parsed, finding)
        except TimeoutError:
            talk.error = f"no answer within {self._settings.timeout:g} s"
        except UnusableAnswerError as error:
            talk.error = f"the answer can't be used: {error}"
        except Exception as error:  # noqa: BLE001  each provider raises its own errors, and none may stop the loop
            talk.error = chat.without_key(f"{type(error).__name__}: {words(str(error), 300)}")
            self._rests_until[number] = self._clock() + (retry_after(error) or 0.0)
        else:
            talk.error = ""
            talk.good = {
                "risk": accepted.risk,
                "explanation": accepted.explanation,
                "action": accepted.action,
                "evidence_ids": accepted.evidence_ids,
                "follow_ups": tuple(str(one) for one in accepted.follow_ups if self.budgets.follow_ups.take() is not None),
            }
        return bool(talk.good)
