"""`ask`: a question in plain words, answered from ClickHouse."""

from __future__ import annotations

from typing import Any

import typer

from consumers.ask.inquiry import QUESTION_LIMIT
from consumers.ask.prepared import QUESTIONS, Prepared, find
from infra.app.output import count, out, plain, print_json, print_rows, tell
from infra.core.errors import BadInput, MissingPrerequisite
from infra.core.settings import load_settings

app = typer.Typer()
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command("ask")
def ask(
    question: str = typer.Argument("", help="A question in plain words, or the number or name of a prepared one; none: list those."),
    as_json: bool = JSON,
) -> None:
    """Answer a question from ClickHouse, with the queries that were run and the rows that the answer rests on.

    Prepared questions need no model. Any other goes to the model (DRIFTLINE_MODEL__NAME), which writes the queries and then sees their
    rows; it is refused where the data does not hold the answer.
    """
    if not question.strip():
        _list(as_json)
        return
    prepared = find(question)
    if prepared is not None:
        _run(prepared, as_json)
        return
    settings = load_settings()
    if not settings.model.name:
        if not as_json:
            _list(False)
        raise MissingPrerequisite(
            "No model is configured, so that only the prepared questions can be asked.",
            "Ask one by its number or name ('driftline ask 1'), or set DRIFTLINE_MODEL__NAME.",
        )
    if len(question) > QUESTION_LIMIT:
        raise BadInput(f"The question is longer than {QUESTION_LIMIT} characters.", "Ask in fewer words.")
    _ask_model(question, as_json)


def _list(as_json: bool) -> None:
    rows = [{"number": number, "name": one.name, "question": one.question} for number, one in enumerate(QUESTIONS, 1)]
    if as_json:
        print_json([{**row, "sql": one.sql} for row, one in zip(rows, QUESTIONS, strict=True)])
        return
    print_rows("prepared questions", ("number", "name", "question"), rows, False, "")


def _run(prepared: Prepared, as_json: bool) -> None:
    from infra.app.asking import run_query

    rows = run_query(prepared.sql)
    if as_json:
        print_json({"question": prepared.question, "model": None, "queries": [{"sql": prepared.sql, "rows": rows}]})
        return
    _show_query(prepared.sql)
    print_rows(prepared.question, tuple(rows[0]) if rows else (), rows, False, "No rows: nothing of that kind is known.")


def _ask_model(question: str, as_json: bool) -> None:
    from infra.app.asking import Inquiry, inquire

    def told(made: Inquiry) -> None:
        for ran in () if as_json else made.ran:
            _show_query(ran.sql)
            tell(f"{count(len(ran.rows), 'row')}{', and more that were left out' if ran.more else ''}")

    made = inquire(question, load_settings().model, told)
    if as_json:
        queries = [{"sql": ran.sql, "rows": [{"id": name, **row} for name, row in ran.rows.items()], "more": ran.more} for ran in made.ran]
        cited = [{"id": name, **row} for name, row in made.cited.items()]
        print_json(
            {"question": question, "answer": made.answer, "cited": cited, "queries": queries, "model": made.model, "tokens": made.tokens}
        )
        return
    out().print(f"\n{plain(made.answer)}\n", markup=False, emoji=False)
    for name, row in made.cited.items():
        _show_row(name, row)
    tell(f"Answered by {made.model} from the rows above ({made.tokens} tokens).")


def _show_query(sql: str) -> None:
    out().print(f"driftline query {plain(repr(sql))}", style="dim", markup=False, emoji=False, soft_wrap=True)


def _show_row(name: str, row: Any) -> None:
    print_rows("", ("row", *row), [{"row": name, **row}], False, "")
