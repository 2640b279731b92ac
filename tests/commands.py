"""Runs a command in this process: quick, and its exception is at hand. Commands that must end as a process does go through a shell."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from infra.app.cli import build


def _nothing() -> None:
    """Instead of the root's callback, which would send all later logs of this process to the runner's streams."""


def invoke(*arguments: str) -> Result:
    """Run `driftline` with these arguments."""
    app = build(arguments[0])
    app.callback()(_nothing)
    return CliRunner().invoke(app, list(arguments))
