"""Runs a question in plain words: the model's queries as a reader, under limits, and the answer that rests on their rows."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from consumers.ask.inquiry import (
    QUERY_LIMITS,
    Plan,
    Ran,
    Reply,
    bounded,
    plan_prompt,
    planned,
    replied,
    reply_prompt,
    with_ids,
)
from consumers.assess.answering import UnusableAnswerError, words
from consumers.assess.chat import Chat
from infra.app.querying import rows_of
from infra.core.errors import BadInput, DriftlineError, Refused
from infra.core.model_settings import ModelSettings
from infra.core.settings import load_settings

ATTEMPTS = 2
TABLES = ("findings", "exposures", "services", "assets", "changes", "observations", "sweeps", "runs", "agents", "audit")
VIEWS = ("open_now", "worst_first", "changed_today", "not_looked_at_lately", "refused", "in_work", "stopped", "quarantined", "watermarks")
COLUMNS = (
    "SELECT table, arrayStringConcat(groupArray(concat(name, ' ', type)), ', ') AS columns FROM (SELECT table, name, type "
    "FROM system.columns WHERE database = currentDatabase() ORDER BY table, position) GROUP BY table ORDER BY table"
)
Rows = list[dict[str, Any]]


@dataclass(slots=True)
class Inquiry:
    """What was asked, run and answered. `cited` are the rows that the answer rests on, by their ids."""

    question: str
    model: str
    ran: list[Ran] = field(default_factory=list)
    answer: str = ""
    cited: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    tokens: int = 0


def run_query(sql: str) -> Rows:
    """The rows of a query, read only and under the limits of a question. Raises BadInput if ClickHouse refuses it."""
    # A user who may only read may not say so once more: ClickHouse refuses to change `readonly` where it is set.
    readonly = {} if load_settings().clickhouse.reader_dsn else {"readonly": 1}
    return rows_of(sql, {**readonly, **QUERY_LIMITS})[1]


def inquire(question: str, settings: ModelSettings, told: Callable[[Inquiry], None], run: Callable[[str], Rows] = run_query) -> Inquiry:
    """Ask the model for queries, run them, and ask it for the answer; `told` is called once the queries ran.

    Raises Refused where the data does not hold the answer, or no answer of the model can be used.
    """
    return asyncio.run(_inquire(question, settings, told, run))


async def _inquire(question: str, settings: ModelSettings, told: Callable[[Inquiry], None], run: Callable[[str], Rows]) -> Inquiry:
    made = Inquiry(question, settings.name or "")
    tables = tables_of(run(COLUMNS))
    await _plan(made, settings, tables, run)
    told(made)
    if not any(one.rows for one in made.ran):
        raise Refused("The data does not hold that: no query gave a row.", "'driftline ask' lists questions that it can answer.")
    reply = await _reply(made, settings)
    known = {name: row for one in made.ran for name, row in one.rows.items()}
    made.answer, made.cited = reply.answer, {name: known[name] for name in reply.rows}
    return made


async def _plan(made: Inquiry, settings: ModelSettings, tables: str, run: Callable[[str], Rows]) -> None:
    """Queries that ran. What was wrong with the first is told to the model, once."""
    problem = ""
    for _ in range(ATTEMPTS):
        prompt = plan_prompt(made.question, tables, secrets.token_hex(8), problem)
        try:
            plan = planned(await _said(made, settings, Plan.model_json_schema(), prompt))
            if plan.refusal:
                raise Refused(f"The data does not hold that: {plan.refusal}", "'driftline ask' lists questions that it can answer.")
            made.ran = [with_ids(number, sql, run(bounded(sql))) for number, sql in enumerate(plan.queries, 1)]
        except (UnusableAnswerError, BadInput) as error:
            problem = str(error)
        else:
            return
    raise Refused(
        f"The model gave no query that can be run: {problem}", "Ask in other words, or one of the questions that 'driftline ask' lists."
    )


async def _reply(made: Inquiry, settings: ModelSettings) -> Reply:
    problem = ""
    for _ in range(ATTEMPTS):
        prompt = reply_prompt(made.question, made.ran, secrets.token_hex(8))
        try:
            reply = replied(await _said(made, settings, Reply.model_json_schema(), prompt), made.question, made.ran)
        except UnusableAnswerError as error:
            problem = str(error)
            continue
        if reply.refusal:
            raise Refused(f"The data does not hold that: {reply.refusal}")
        return reply
    raise Refused(f"The model's answer can't be used: {problem}.", "The rows above are what the queries gave.")


async def _said(made: Inquiry, settings: ModelSettings, schema: dict[str, Any], prompt: tuple[str, str]) -> Any:
    """One call; of the fallback where the first model fails. Raises DriftlineError if none answers."""
    problem = ""
    for endpoint in settings.endpoints:
        chat = Chat(endpoint, settings, schema)
        try:
            await chat.load()
            said = await chat.ask(*prompt)
        except TimeoutError:
            problem = f"no answer within {settings.timeout:g} s"
        except Exception as error:  # noqa: BLE001  each provider raises its own errors
            problem = chat.without_key(f"{type(error).__name__}: {words(str(error), 300)}")
        else:
            made.model, made.tokens = endpoint.name or "", made.tokens + sum(said.tokens or ())
            if said.problem:
                raise UnusableAnswerError(said.problem)
            return said.parsed
    raise DriftlineError(f"The model {settings.name} did not answer: {problem}.", "Check DRIFTLINE_MODEL__NAME, __BASE_URL and __API_KEY.")


def tables_of(columns: Rows) -> str:
    """The tables as the model is shown them: our tables and views with their columns, a line each."""
    found = {str(row["table"]): str(row["columns"]) for row in columns}
    lines = [f"{name} FINAL ({found[name]})" for name in TABLES if name in found]
    return "\n".join(lines + [f"{name} ({found[name]})" for name in VIEWS if name in found])
