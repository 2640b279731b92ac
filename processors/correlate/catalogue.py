"""The table of rules: the built-in ones, and those that other packages add through the entry-point group `driftline.rules`.

`python -m processors.correlate.catalogue` prints their reference page, `docs/reference/rules.md`; a test fails when the two differ.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

from infra.core.errors import BadInput
from processors.correlate.adjustments import ADJUSTMENTS
from processors.correlate.contract import Rule
from processors.correlate.rules import access, certificates, placement, surface, transport, versions

GROUP = "driftline.rules"
BUILT_IN: tuple[Rule, ...] = (*access.RULES, *versions.RULES, *certificates.RULES, *transport.RULES, *surface.RULES, *placement.RULES)


def all_rules() -> tuple[Rule, ...]:
    """The built-in rules and the installed ones. Raises BadInput for an entry point that is no rule, or a name used twice."""
    return merged(BUILT_IN, tuple(entry_points(group=GROUP)))


def merged(rules: tuple[Rule, ...], points: tuple[EntryPoint, ...]) -> tuple[Rule, ...]:
    """Rules and those that entry points name, in the order of their names."""
    found = list(rules)
    for point in sorted(points, key=lambda one: one.name):
        loaded = point.load()
        if not isinstance(loaded, Rule):
            raise BadInput(f"The entry point {point.name} of {GROUP} names {point.value}, no Rule.", "Mend or uninstall it.")
        found.append(loaded)
    names = [rule.name for rule in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise BadInput(f"Two rules share the name {twice[0]}.", "Uninstall one of the packages that bring it, or rename the rule.")
    return tuple(found)


def as_markdown() -> str:
    """The reference page of the built-in rules."""
    lines = [
        "# Rules",
        "",
        "Written by `python -m processors.correlate.catalogue > docs/reference/rules.md`; a test compares the two.",
        "",
        "A rule looks at one service and gives a base risk, a floor and a ceiling. Adjustments move the base within those bounds.",
        "Ranks: critical from 85, high from 65, medium from 40, low from 15, info below.",
        "Another package adds a rule with an entry point of the group `driftline.rules` (see `processors/correlate/contract.py`).",
        "",
        "| rule | fires when | silences at the same service | source |",
        "|---|---|---|---|",
    ]
    lines += [f"| `{one.name}` | {one.doc} | {', '.join(f'`{name}`' for name in one.covers)} | {one.source} |" for one in BUILT_IN]
    lines += ["", "| adjustment | effect | source |", "|---|---|---|"]
    lines += [f"| `{one.name}` | {one.doc} | {one.source} |" for one in ADJUSTMENTS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(as_markdown(), end="")
