"""`driftline findings`: what matters now, and a person's word on it."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Any

import typer
from rich.padding import Padding

from infra.app.commands.following import NONE, follow
from infra.app.output import RANK_STYLES, count, escape, out, print_json, print_rows, tell
from infra.app.people import now, publisher, write
from infra.app.querying import rows_of
from infra.core.errors import BadInput
from infra.core.settings import load_settings
from producers.auditing import local_actor
from producers.grants.wording import parse_expiry
from schemas.events.findings import Decision, DecisionKind
from schemas.ids import content_id, decision_key

app = typer.Typer(help="Risk-ranked findings: list, show, decide.", no_args_is_help=True)
PLACES = 4
SHOWN = ("places", "why", "action", "rationale", "rules", "cves", "owner", "explanation", "assignee", "decision", "comment", "evidence_ids")
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")
REASON = typer.Option(..., "--reason", "-r", help="Why; kept with the finding.")
FOR = typer.Option(None, "--for", help="Until when, e.g. 30d, 12h or 2027-01-31; without it, until someone says otherwise.")


@app.command("list")
def list_findings(
    everything: bool = typer.Option(False, "--all", help="Also those that are resolved, accepted or suppressed."),
    follow_on: bool = typer.Option(False, "--follow", "-f", help="Then print each finding as it changes, until Ctrl-C; JSON as lines."),
    as_json: bool = JSON,
) -> None:
    """Show findings, worst first."""
    if follow_on:
        follow(load_settings(), everything, as_json)
        return
    where = "" if everything else "WHERE status = 'open'"
    _, rows = rows_of(f"SELECT * FROM findings FINAL {where} ORDER BY risk DESC, title, finding_id")  # noqa: S608  fixed text
    if as_json:
        print_json(rows)
    else:
        shown = ["rank", "risk", "title", "places", *(["status"] if everything else []), *_filled(rows, "owner", "assignee"), "id"]
        print_rows("findings", shown, [_short(row) for row in rows], False, NONE)
    _, (waiting, *_) = rows_of("SELECT toUInt32(sum(waiting)) AS units, toUInt32(count()) AS runs FROM in_work")
    if waiting["units"]:
        tell(f"{count(waiting['units'], 'unit')} of {count(waiting['runs'], 'run')} not looked at yet: see 'driftline runs'.")
    _, (stopped, *_) = rows_of(
        "SELECT toUInt32(count()) AS units, arrayStringConcat(groupUniqArray(stopped_reason), '; ') AS why FROM stopped"
    )
    if stopped["units"]:
        tell(f"{count(stopped['units'], 'unit')} of the last day ended early ({stopped['why']}): see the view 'stopped'.")


def _filled(rows: list[dict[str, Any]], *columns: str) -> list[str]:
    return [name for name in columns if any(row[name] for row in rows)]


def _short(row: dict[str, Any]) -> dict[str, object]:
    """A finding for a line of a table: a few places, the first digits of its id, which are enough for the other commands."""
    places = [*row["places"][:PLACES], *([f"and {len(row['places']) - PLACES} more"] if len(row["places"]) > PLACES else [])]
    return {**row, "risk": f"{row['risk']:.0f}", "places": "\n".join(places), "id": str(row["finding_id"])[:8]}


@app.command("show")
def show(finding_id: str = typer.Argument(help="Its id, or the first characters of it."), as_json: bool = JSON) -> None:
    """Show one finding whole. What was seen, why it matters, what to do, which rules fired, what people said."""
    row = _find(finding_id)
    if as_json:
        print_json(row)
        return
    console = out()
    console.print(
        f"[{RANK_STYLES[str(row['rank'])]}] {row['rank']} {row['risk']:.0f} [/] [bold]{escape(str(row['title']))}[/]  "
        f"({row['status']}{', baseline' if row['baseline'] else ''})"
    )
    said = {**row, "decision": _decision(row), "comment": f"{row['comment']} ({row['comment_by']})" if row["comment"] else ""}
    for name in SHOWN:
        lines = said[name] if isinstance(said[name], list | tuple) else [said[name]]
        if any(lines):
            console.print(f"[bold]{name.replace('_', ' ')}[/]")
            console.print(Padding("\n".join(escape(str(one)) for one in lines), (0, 0, 0, 2)))
    first, changed = (f"{row[name]:%Y-%m-%d %H:%M:%S}Z" for name in ("first_seen", "changed_at"))
    console.print(f"[dim]{row['finding_id']} revision {row['revision']}, first seen {first}, changed {changed}[/]")


@app.command("accept")
def accept(finding_id: str, reason: str = REASON, span: str = FOR) -> None:
    """Accept the risk. It leaves the open list until the time is over."""
    _decide(finding_id, DecisionKind.ACCEPT, reason, span)


@app.command("suppress")
def suppress(finding_id: str, reason: str = REASON, span: str = FOR) -> None:
    """Do not tell of it. It leaves the open list until the time is over."""
    _decide(finding_id, DecisionKind.SUPPRESS, reason, span)


@app.command("false-positive")
def false_positive(finding_id: str, reason: str = REASON, span: str = FOR) -> None:
    """Say that it is not so; a label for backtests."""
    _decide(finding_id, DecisionKind.FALSE_POSITIVE, reason, span)


@app.command("true-positive")
def true_positive(finding_id: str, reason: str = REASON, span: str = FOR) -> None:
    """Say that it is so; a label for backtests."""
    _decide(finding_id, DecisionKind.TRUE_POSITIVE, reason, span)


@app.command("assign")
def assign(finding_id: str, assignee: str, reason: str = typer.Option("", "--reason", "-r"), span: str = FOR) -> None:
    """Give it to someone."""
    _decide(finding_id, DecisionKind.ASSIGN, reason, span, assignee)


@app.command("comment")
def comment(finding_id: str, text: str = typer.Argument(help="The remark."), span: str = FOR) -> None:
    """Leave a remark on it."""
    _decide(finding_id, DecisionKind.COMMENT, text, span)


@app.command("reopen")
def reopen(finding_id: str, reason: str = REASON) -> None:
    """Take back an earlier word; it is open again."""
    _decide(finding_id, DecisionKind.REOPEN, reason)


def _decide(finding_id: str, kind: DecisionKind, reason: str, span: str | None = None, assignee: str = "") -> None:
    if not reason.strip() and kind is not DecisionKind.ASSIGN:
        raise BadInput("A decision without a reason helps nobody.", "Say why; it is kept with the finding.")
    row = _find(finding_id)
    whole, at = str(row["finding_id"]), now()
    decision = Decision(
        decision_id=content_id("decision", whole, kind.value, at.isoformat()),
        finding_id=whole,
        kind=kind,
        reason=reason,
        assignee=assignee,
        expires_at=_until(span, at),
        decided_by=local_actor().name,
        decided_at=at,
    )
    with publisher(load_settings()) as outlet:
        write(outlet, "decisions", decision_key(decision), decision, f"finding.{kind.value}", reason)
    tell(f"{kind.value.replace('_', ' ')}: {row['title']}")


def _until(span: str | None, at: datetime) -> datetime | None:
    moment = parse_expiry(span, at) if span else None
    if moment is not None and moment <= at:
        raise BadInput(f"'{span}' is over already.", "Name a time to come, e.g. 30d.")
    return moment


def _decision(row: dict[str, Any]) -> str:
    """The decision that counts in a sentence: what, by whom, until when, why."""
    if not row["decision"]:
        return ""
    until = f" until {row['decision_until']:%Y-%m-%d %H:%M}Z" if row["decision_until"] else ""
    return f"{row['decision'].replace('_', ' ')} by {row['decided_by']}{until}: {row['decision_reason']}".removesuffix(": ")


def _find(finding_id: str) -> dict[str, Any]:
    if not re.fullmatch(r"[0-9a-f]{4,32}", finding_id):
        raise BadInput(
            f"'{finding_id}' is not a finding's id.", "Give at least 4 of its hexadecimal digits; see 'driftline findings list --all'."
        )
    _, rows = rows_of(f"SELECT * FROM findings FINAL WHERE startsWith(finding_id, '{finding_id}') LIMIT 2")  # noqa: S608  checked above
    if len(rows) != 1:
        raise BadInput(
            f"{'No' if not rows else 'More than one'} finding has an id that begins with {finding_id}.",
            "See 'driftline findings list --all'.",
        )
    return rows[0]
