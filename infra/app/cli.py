"""The command `driftline`, grouped by noun. Each group is a module under `infra/app/commands`.

Exit codes: 0 done, 2 bad input, 3 a prerequisite is missing, 4 the pipeline refused, 1 anything else (a role whose fuse blew: 5).
"""

from __future__ import annotations

import importlib
import sys
from importlib.metadata import version

import typer

from infra.app.output import err
from infra.core.errors import DriftlineError

# Groups are attached as sub-commands of their noun; an empty noun attaches the commands at the top.
GROUPS: tuple[tuple[str, str], ...] = (
    ("", "infra.app.commands.pipeline"),
    ("", "infra.app.commands.machine"),
    ("", "infra.app.commands.queries"),
    ("grant", "infra.app.commands.grants"),
    ("campaign", "infra.app.commands.campaigns"),
    ("targets", "infra.app.commands.targets"),
    ("findings", "infra.app.commands.findings"),
    ("inventory", "infra.app.commands.inventory"),
    ("topics", "infra.app.commands.topics"),
    ("dlq", "infra.app.commands.dlq"),
    ("lab", "infra.app.commands.lab"),
)


def build() -> typer.Typer:
    """The whole command tree."""
    app = typer.Typer(
        name="driftline",
        help="Continuous network discovery and exposure ranking, for networks that you are authorised to probe.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback(invoke_without_command=True)(_root)
    for noun, module in GROUPS:
        group: typer.Typer = importlib.import_module(module).app
        if noun:
            app.add_typer(group, name=noun)
        else:
            app.registered_commands.extend(group.registered_commands)
    return app


def _root(show_version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if show_version:
        sys.stdout.write(f"driftline {version('driftline')}\n")
        raise typer.Exit


def main() -> None:
    """Run the command; errors for people go to standard error, each with its exit code."""
    try:
        build()(standalone_mode=True)
    except DriftlineError as error:
        err().print(f"error: {error}", markup=False, style="red")
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(1)


if __name__ == "__main__":
    main()
