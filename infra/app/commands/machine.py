"""`doctor`, `config`, `demo`: this machine, its settings, and a first look."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import typer
from pydantic import BaseModel, SecretStr

from infra.app.doctor import Check, checks
from infra.app.output import escape, out, print_json, print_rows, tell
from infra.core.errors import DriftlineError
from infra.core.settings import Settings, load_settings

app = typer.Typer()
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command()
def doctor(fix: bool = typer.Option(False, "--fix", help="Mend what can be mended."), as_json: bool = JSON) -> None:
    """Check everything that Driftline needs here. Exit code 3 if something needed is missing."""
    settings = load_settings()
    found = [_mended(check, settings) if fix and not check.ok and check.mend else check for check in checks(settings)]
    if as_json:
        print_json([{"name": one.name, "ok": one.ok, "needed": one.needed, "found": one.found, "fix": one.fix} for one in found])
    else:
        for one in found:
            sign = "[green]✓[/]" if one.ok else "[red]✗[/]" if one.needed else "[yellow]–[/]"
            fixes = f"\n  [dim]{escape(one.fix)}[/]" if one.fix and not one.ok else ""
            out().print(f"{sign} {one.name:20} {escape(one.found)}{fixes}", soft_wrap=True, emoji=False)
    missing = [one.name for one in found if one.needed and not one.ok]
    if missing:
        tell(f"Driftline can't run here yet: {', '.join(missing)}.")
        sys.exit(3)
    tell("Everything that Driftline needs is here.")


def _mended(check: Check, settings: Settings) -> Check:
    tell(f"mending: {check.name} …")
    try:
        if check.mend:
            check.mend()
    except (DriftlineError, OSError, subprocess.CalledProcessError) as error:
        tell(f"could not mend {check.name}: {error}")
    return next((one for one in checks(settings) if one.name == check.name), check)


@app.command()
def config(changed: bool = typer.Option(False, "--changed", help="Only what differs from the defaults."), as_json: bool = JSON) -> None:
    """Show the settings, secrets masked. Those that differ from the defaults are marked."""
    rows = []
    defaults = dict(_leaves("", Settings.model_construct()))
    for name, value in _leaves("", load_settings()):
        differs = str(value) != str(defaults.get(name))
        if differs or not changed:
            rows.append(
                {
                    "setting": name,
                    "environment": "DRIFTLINE_" + name.upper().replace(".", "__"),
                    "value": value if isinstance(value, bool | int | float) or value is None else _text(value),
                    "changed": "yes" if differs else "",
                }
            )
    print_rows("settings", ("setting", "value", "changed"), rows, as_json, "Everything is at its default.")
    if rows and not as_json:
        tell("In the environment: kafka.prefix is DRIFTLINE_KAFKA__PREFIX, and so on.")


def _text(value: object) -> str | list[str]:
    return [str(one) for one in value] if isinstance(value, tuple) else str(value)


def _leaves(prefix: str, branch: BaseModel) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name in type(branch).model_fields:
        value = getattr(branch, name)
        if isinstance(value, BaseModel):
            found += _leaves(f"{prefix}{name}.", value)
        else:
            found.append((prefix + name, "********" if isinstance(value, SecretStr) else value))
    return found


@app.command()
def demo(
    as_json: bool = typer.Option(False, "--json", help="Print one JSON document at the end, nothing else on standard output."),
    model_server: bool = typer.Option(
        False,
        "--model-server",
        help="Let a scripted server on loopback stand in for a model: explanations, evidence, a look that it asks for.",
    ),
) -> None:
    """Make a lab, scan it, rank it, change it, show the change. Takes less than three minutes."""
    from infra.app.demo import run_demo

    run_demo(as_json, model_server)
