"""`driftline backtest`: what other rules would have raised, or another model or prompt answered."""

from __future__ import annotations

from pathlib import Path

import typer

from infra.app.output import count, print_json, print_rows, tell
from infra.app.people import require_kafka
from infra.core.errors import BadInput
from infra.core.settings import load_settings

app = typer.Typer()
COLUMNS = ("rule", "raised", "would_raise", "new", "gone", "moved", "labels", "precision_before", "precision_after")


@app.command("backtest")
def backtest(
    rules: list[str] | None = typer.Option(None, "--rules", help="Run these alone: FILE.py with RULES, or module:NAME. Repeatable."),  # noqa: B008
    add: list[str] | None = typer.Option(None, "--add", help="Run these too, in place of those with the same name. Repeatable."),  # noqa: B008
    without: list[str] | None = typer.Option(None, "--without", help="Leave a rule out, by name. Repeatable."),  # noqa: B008
    model: str | None = typer.Option(None, "--model", help="Put stored questions to this model instead, e.g. openai:gpt-5-mini."),
    prompt: Path | None = typer.Option(None, "--prompt", help="Put stored questions with the prompt of this file instead."),  # noqa: B008
    most: int = typer.Option(50, "--most", min=1, help="With --model or --prompt: put so many questions at most, the latest first."),
    limit: int = typer.Option(50, "--limit", min=0, help="Most differences to list; JSON has them all."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on standard output."),
) -> None:
    """Run rules over what the topics retain and compare with what was raised.

    Without options the rules are those in force: what differs then was moved by time or by feeds that are newer than the findings.
    Precision is the share of true positives among the findings that somebody labelled. Nothing is written anywhere.

    With --model or --prompt it is the model that is tested: questions that `exchanges` holds are put again, which costs what calls cost.
    """
    if model or prompt:
        if rules or add or without:
            raise BadInput("Rules and models are tested apart.", "Give --rules, --add and --without, or --model and --prompt.")
        _models(model, prompt, most, limit, as_json)
        return
    from infra.app.backtesting import backtest as run
    from infra.app.backtesting import rule_set
    from processors.correlate.catalogue import rules_of

    settings = load_settings()
    in_force, weights = rules_of(settings.correlator.rules)
    chosen = rule_set(in_force, rules or [], add or [], without or [])
    require_kafka(settings)
    done = run(settings, chosen, tell if not as_json else lambda _: None, weights)
    window = {"since": done.since, "until": done.until, "assets": done.assets, "changes": done.changes}
    if as_json:
        print_json({**window, "unreadable": done.unreadable, "failed": done.failed, **done.comparison.document()})
        return
    found = done.comparison
    rows = [_row(one) for one in found.document()["rules"]]
    print_rows("rules", COLUMNS, rows, False, "Nothing was raised, and nothing would be.")
    if found.differences and limit:
        listed = [
            {"kind": one.kind, "rule": one.rule, "was": one.was, "would_be": one.would_be, "title": one.title, "id": one.finding_id[:8]}
            for one in found.differences[:limit]
        ]
        print_rows("differences", ("kind", "rule", "was", "would_be", "title", "id"), listed, False, "")
    left = f" (the first {limit} are listed)" if 0 < limit < len(found.differences) else ""
    new, gone, moved = (found.counted(kind) for kind in ("new", "gone", "moved"))
    tell(f"{new} new, {gone} gone, {moved} moved{left}, from {done.since:%Y-%m-%d %H:%M}Z to {done.until:%Y-%m-%d %H:%M}Z.")
    for reason, number in sorted(done.failed.items()):
        tell(f"failed {count(number, 'time')}: {reason}", style="red")
    if done.unreadable:
        tell(f"{count(done.unreadable, 'record')} could not be read.", style="red")


def _models(model: str | None, prompt: Path | None, most: int, limit: int, as_json: bool) -> None:
    from consumers.assess.comparing import summary
    from infra.app.model_backtesting import backtest_model, read_prompt

    settings, text = load_settings(), read_prompt(prompt)
    require_kafka(settings)
    done = backtest_model(settings, model, text, most, tell if not as_json else lambda _: None)
    found = summary(done.pairs, done.labels)
    rows = [one.row() for one in done.pairs]
    if as_json:
        print_json({**found, "left_out": done.left_out, "answers": rows})
        return
    sides = [{"side": name, **found[name]} for name in ("before", "after")]
    print_rows("answers", tuple(sides[0]), sides, False, "")
    differing = [row for row in rows if row["was"] != row["would_be"] or not row["usable_would_be"]]
    columns = ("rank_was", "was", "rank_would_be", "would_be", "base", "title", "error", "finding_id")
    print_rows("differences", columns, differing[:limit], False, "No risk differs.")
    tell(f"{count(len(rows), 'question')}: {len(differing)} differ, {found['rank_differs']} in rank.")
    for reason, number in sorted(done.left_out.items()):
        tell(f"{number} left out: {reason}.")


def _row(one: dict[str, object]) -> dict[str, object]:
    shown = {name: "" if one.get(name) is None else one.get(name) for name in COLUMNS}
    return {**shown, "labels": f"{one['true_before']} true, {one['false_before']} false"}
