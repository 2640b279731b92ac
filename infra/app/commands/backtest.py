"""`driftline backtest`: what other rules would have raised."""

from __future__ import annotations

import typer

from infra.app.output import count, print_json, print_rows, tell
from infra.app.people import require_kafka
from infra.core.settings import load_settings

app = typer.Typer()
COLUMNS = ("rule", "raised", "would_raise", "new", "gone", "moved", "labels", "precision_before", "precision_after")


@app.command("backtest")
def backtest(
    rules: list[str] | None = typer.Option(None, "--rules", help="Run these alone: FILE.py with RULES, or module:NAME. Repeatable."),  # noqa: B008
    add: list[str] | None = typer.Option(None, "--add", help="Run these too, in place of those with the same name. Repeatable."),  # noqa: B008
    without: list[str] | None = typer.Option(None, "--without", help="Leave a rule out, by name. Repeatable."),  # noqa: B008
    limit: int = typer.Option(50, "--limit", min=0, help="Most differences to list; JSON has them all."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON on standard output."),
) -> None:
    """Run rules over what the topics retain and compare with what was raised.

    Without options the rules are those in force: what differs then was moved by time or by feeds that are newer than the findings.
    Precision is the share of true positives among the findings that somebody labelled. Nothing is written anywhere.
    """
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


def _row(one: dict[str, object]) -> dict[str, object]:
    shown = {name: "" if one.get(name) is None else one.get(name) for name in COLUMNS}
    return {**shown, "labels": f"{one['true_before']} true, {one['false_before']} false"}
