"""The demo's part with a scripted model: what it said of the findings, and what the look that it asked for found."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from infra.app.demo.asking import Answers
from infra.app.output import print_rows, tell
from infra.local.scripted_model import NAME, ScriptedModel

HIDDEN_PORT = 16379
"""No campaign of the demo looks there."""
FOLLOWED = {"redis-without-password": HIDDEN_PORT, "plain-http": HIDDEN_PORT}
REVIEW_SECONDS = 120.0
OPEN = "FROM findings FINAL WHERE status = 'open'"
REVIEWS = (
    f"SELECT rank, risk, title, explanation, model_action, model_evidence_ids, review_model, finding_id {OPEN} AND review = 'done' "
    "ORDER BY risk DESC, title, finding_id"
)
WAITING = f"SELECT count() AS n {OPEN} AND review = 'pending'"
LOOKS = "SELECT run_id, cause, units, started_at FROM runs FINAL WHERE cause = 'follow_up' ORDER BY started_at"
FOUND = (
    "SELECT zone, address, port, service, product, version FROM services FINAL WHERE status = 'open' AND port = {port:UInt16} "
    "AND address = {address:String}"
)
RAISED = f"SELECT rank, risk, title, places, finding_id {OPEN} AND has(places, {{place:String}}) ORDER BY risk DESC"


def start_model() -> ScriptedModel:
    """The server; the roles, which are child processes, find it in the environment."""
    model = ScriptedModel(FOLLOWED)
    os.environ["DRIFTLINE_MODEL__NAME"] = NAME
    os.environ["DRIFTLINE_MODEL__BASE_URL"] = model.url
    return model


def await_reviews(answers: Answers, hidden: tuple[str, int]) -> None:
    """Wait until no review is pending and the look that the model asked for has found the hidden service. Raises DriftlineError."""
    address, port = hidden

    def all_said() -> bool:
        found = answers.rows(FOUND, address=address, port=port) and answers.rows(RAISED, place=f"{address}:{port}")
        return bool(found) and answers.rows(WAITING)[0]["n"] == 0

    answers.until(all_said, REVIEW_SECONDS, "the model's reviews and the look that it asks for")


def reviews(answers: Answers, hidden: tuple[str, int]) -> dict[str, Any]:
    """What the model said, which looks it asked for, and what they found."""
    address, port = hidden
    place = f"{address}:{port}"
    return {
        "model": NAME,
        "reviews": answers.rows(REVIEWS),
        "follow_up_runs": answers.rows(LOOKS),
        "follow_up_found": answers.rows(FOUND, address=address, port=port),
        "follow_up_findings": answers.rows(RAISED, place=place),
    }


def show_reviews(told: dict[str, Any]) -> None:
    """The explanations with their evidence, and what the look that was asked for found."""
    tell("A scripted server stands in for a model: its sentences are the rules' own. Set DRIFTLINE_MODEL__NAME for a real one.")
    shown = [{**row, "what_to_do": row["model_action"], "evidence": _few(row["model_evidence_ids"])} for row in told["reviews"]]
    print_rows("What the model said", ("rank", "risk", "title", "explanation", "what_to_do", "evidence"), shown, False, "Nothing.")
    print_rows(
        "What the look found that the model asked for",
        ("address", "port", "service", "product", "version"),
        told["follow_up_found"],
        False,
        "Nothing.",
    )
    print_rows("… and what that raised", ("rank", "risk", "title", "places"), told["follow_up_findings"], False, "Nothing.")


def _few(ids: Sequence[str]) -> str:
    return ", ".join(one[:12] for one in ids)
