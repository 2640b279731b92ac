"""One language model behind LangChain: asked for an answer by a schema, which comes back as plain data or with what went wrong."""

from __future__ import annotations

import asyncio
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from infra.core.model_settings import ModelEndpoint, ModelSettings

ANSWER_LIMIT = 8000
FENCE = re.compile(r"\A```(?:json)?\s*(.*?)\s*```\Z", re.DOTALL)
MOST_RETRY_AFTER = 86_400.0


@dataclass(frozen=True, slots=True)
class Said:
    """What came back. `tokens` are (asked, answered), None where the server did not tell. `problem`: why `parsed` can't be used."""

    parsed: Any
    text: str
    tokens: tuple[int, int] | None
    problem: str = ""


class Chat:
    """A model as configured. It is loaded at the first question, since LangChain's import alone takes seconds."""

    def __init__(self, endpoint: ModelEndpoint, settings: ModelSettings, schema: dict[str, Any]) -> None:
        self.endpoint = endpoint
        self._settings, self._schema = settings, schema
        self._model: Any = None

    async def load(self) -> None:
        """Import what is needed. Raises whatever LangChain raises for a name that it does not know."""
        if self._model is None:
            self._model = await asyncio.to_thread(chat_model, self.endpoint, self._settings, self._schema)

    async def ask(self, system: str, user: str) -> Said:
        """One call. Raises TimeoutError after the settings' timeout, and whatever the provider's client raises.

        A JSON schema, not a class, is asked for: with a class some providers raise away the raw answer that is kept. What LangChain reads
        out of JSON text is not used: it mends an answer that was cut off (`parse_partial_json`), and takes what stands before garbage.
        """
        result = await asyncio.wait_for(self._model.ainvoke([("system", system), ("user", user)]), self._settings.timeout)
        raw = result["raw"]
        usage = getattr(raw, "usage_metadata", None)
        tokens = (int(usage.get("input_tokens", 0)), int(usage.get("output_tokens", 0))) if usage else None
        text = text_of(raw.content)
        try:
            parsed = result["parsed"] if getattr(raw, "tool_calls", None) else json.loads(FENCE.sub(r"\1", text.strip()))
        except (ValueError, RecursionError):
            return Said(None, text[:ANSWER_LIMIT], tokens, "it is not the JSON that was asked for")
        return Said(parsed, text[:ANSWER_LIMIT], tokens)

    def without_key(self, text: str) -> str:
        """A text without the key, which servers like to repeat in their errors."""
        key = self.endpoint.api_key.get_secret_value() if self.endpoint.api_key else ""
        return text.replace(key, "***") if key else text


def chat_model(endpoint: ModelEndpoint, settings: ModelSettings, schema: dict[str, Any]) -> Any:
    """The configured model, answering by schema. Retries are ours, so that each counts."""
    from langchain.chat_models import init_chat_model

    options: dict[str, Any] = {"timeout": settings.timeout, "max_retries": 0, "max_tokens": settings.answer_tokens}
    if endpoint.base_url:
        options["base_url"] = endpoint.base_url
    if endpoint.api_key:
        options["api_key"] = endpoint.api_key.get_secret_value()
    elif endpoint.base_url:
        options["api_key"] = "none"  # local servers want none, clients insist on one
    return init_chat_model(endpoint.name, **options).with_structured_output(schema, include_raw=True)


def text_of(content: Any) -> str:
    """The text of a message: some providers send it in blocks."""
    if isinstance(content, list):
        return "".join(str(one.get("text", "")) if isinstance(one, dict) else str(one) for one in content)
    return str(content)


def retry_after(error: BaseException, now: datetime | None = None) -> float | None:
    """How many seconds a server asks to be left alone (RFC 9110, 10.2.3: seconds, or a date); None where it does not say."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    said = str(headers.get("retry-after", "")).strip()
    try:
        seconds = float(said) if said[:1].isdigit() else (parsedate_to_datetime(said) - (now or datetime.now(UTC))).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(seconds, 0.0), MOST_RETRY_AFTER)
