"""`run`: roles in this process. Imports little, because every role's process starts here."""

from __future__ import annotations

import sys

import typer

from infra.app.roles import MODULES
from infra.app.runner import run_roles
from infra.core.settings import load_settings

app = typer.Typer()


@app.command()
def run(roles: list[str] = typer.Argument(help=f"Roles to run in this process: {', '.join(MODULES)}.")) -> None:  # noqa: B008
    """Run one or more roles in this process. For a cluster: more processes share the work."""
    sys.exit(run_roles(load_settings(), tuple(dict.fromkeys(roles))))
