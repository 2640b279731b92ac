"""The table of rules: the built-in ones, those that other packages add (entry points `driftline.rules`), those of the user's file.

`python -m processors.correlate.catalogue` prints their reference page, `docs/reference/rules.md`; a test fails when the two differ.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from infra.core.errors import BadInput
from processors.correlate.adjustments import ADJUSTMENTS
from processors.correlate.contract import TABLES, Rule
from processors.correlate.own_rules import Own, parse
from processors.correlate.rules import access, certificates, instructions, placement, surface, transport, versions
from processors.correlate.ssvc import TABLE
from processors.correlate.tables import Tables
from processors.correlate.urgency import BANDS

GROUP = "driftline.rules"
BUILT_IN: tuple[Rule, ...] = (
    *access.RULES,
    *versions.RULES,
    *certificates.RULES,
    *transport.RULES,
    *surface.RULES,
    *placement.RULES,
    *instructions.RULES,
)


def rules_of(file: Path | None) -> tuple[tuple[Rule, ...], Tables]:
    """The built-in rules, the installed ones and those of a user's file, and the tables. Raises BadInput for what is no rule."""
    installed = merged(BUILT_IN, tuple(entry_points(group=GROUP)))
    if file is None:
        return installed, TABLES
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise BadInput(f"The rules in {file} can't be read: {error}.", "Mend DRIFTLINE_CORRELATOR__RULES, or the file.") from None
    own = parse(text, file.name)
    return with_own(installed, own, file.name), own.tables


def with_own(rules: tuple[Rule, ...], own: Own, file: str) -> tuple[Rule, ...]:
    """Rules with a user's own, and without those that he switched off. Raises BadInput for names that clash or are not known."""
    found = _unlike((*rules, *own.rules), f"Rename the rule in {file}, or uninstall the package that brings the other.")
    known = {rule.name for rule in found}
    unknown = sorted((own.off | {name for rule in own.rules for name in rule.covers}) - known)
    if unknown:
        raise BadInput(f"{file} names a rule that does not exist: {', '.join(unknown)}.", "docs/reference/rules.md lists them.")
    return tuple(rule for rule in found if rule.name not in own.off)


def merged(rules: tuple[Rule, ...], points: tuple[EntryPoint, ...]) -> tuple[Rule, ...]:
    """Rules and those that entry points name, in the order of their names."""
    found = list(rules)
    for point in sorted(points, key=lambda one: one.name):
        loaded = point.load()
        if not isinstance(loaded, Rule):
            raise BadInput(f"The entry point {point.name} of {GROUP} names {point.value}, no Rule.", "Mend or uninstall it.")
        found.append(loaded)
    return _unlike(tuple(found), "Uninstall one of the packages that bring it, or rename the rule.")


def _unlike(rules: tuple[Rule, ...], otherwise: str) -> tuple[Rule, ...]:
    names = [rule.name for rule in rules]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"Two rules share the name {twice[0]}.", otherwise)
    return rules


def as_markdown() -> str:
    """The reference page of the built-in rules, with the table that vulnerabilities are weighed by."""
    lines = [
        "# Rules",
        "",
        "Written by `python -m processors.correlate.catalogue > docs/reference/rules.md`; a test compares the two.",
        "",
        "A rule looks at one service and gives a base risk, a floor and a ceiling. Adjustments move the base within those bounds.",
        "Ranks: critical from 85, high from 65, medium from 40, low from 15, info below.",
        "Add your own: [in a file](../how-to/own-rules.md), or [in a package](../how-to/extend.md).",
        "",
        "| rule | fires when | silences at the same service | source |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{one.name}` | {one.doc} | {', '.join(f'`{name}`' for name in one.covers)} | {one.source} |" for one in BUILT_IN]
    lines += ["", "What vulnerabilities a version has is weighed by CISA's SSVC: [in words](../explanation/ranking.md).", ""]
    lines += ["| exploitation | automatable | technical impact | mission low | medium | high |", "|---|---|---|---|---|---|"]
    lines += [f"| {' | '.join(point)} | {' | '.join(actions)} |" for point, actions in TABLE.items()]
    lines += ["", "| action | base | floor | ceiling |", "|---|---|---|---|"]
    lines += [f"| {action} | {one.low:g} to {one.high:g} | {one.floor:g} | {one.ceiling:g} |" for action, one in BANDS.items()]
    lines += ["", "| adjustment | effect | source |", "|---|---|---|"]
    lines += [f"| `{one.name}` | {one.doc} | {one.source} |" for one in ADJUSTMENTS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
