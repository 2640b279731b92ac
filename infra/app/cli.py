"""The command `driftline`, grouped by noun. Each group is a module under `infra/app/commands`, imported only when it is asked for.

Exit codes: 0 done, 2 bad input, 3 a prerequisite is missing, 4 the pipeline refused, 1 anything else (a role whose fuse blew: 5),
130 interrupted by Ctrl-C. Where Ctrl-C is the way to end a command (`up`, `run`, `lab up`, `findings list --follow`) it ends with 0.
"""

from __future__ import annotations

import gc
import importlib
import os
import sys

import typer

from infra.core.errors import BadInput, DriftlineError

# What may stand first on the command line, and the module that holds it: importing them all would take each role a second more.
COMMANDS: dict[str, str] = {
    "up": "pipeline",
    "status": "pipeline",
    "run": "running",
    "doctor": "machine",
    "config": "machine",
    "demo": "machine",
    "query": "queries",
    "ask": "ask",
    "runs": "runs",
    "touched": "touched",
    "diff": "diff",
    "freeze": "orders",
    "thaw": "orders",
    "drain": "orders",
    "resume": "orders",
    "identify": "identify",
    "match": "match",
    "explain": "explain",
    "sweep": "sweep",
    "ddl": "ddl",
    "backtest": "backtest",
}
NOUNS: dict[str, str] = {
    "grant": "grants",
    "campaign": "campaigns",
    "targets": "targets",
    "findings": "findings",
    "inventory": "inventory",
    "import": "imports",
    "intel": "intel",
    "topics": "topics",
    "dlq": "dlq",
    "agents": "agents",
    "lab": "lab",
}
PACKAGE = "infra.app.commands"


def build(word: str | None = None) -> typer.Typer:
    """The command tree; only the branch of `word` if it is a command, else all of it (help, completion, a mistyped word)."""
    app = typer.Typer(
        name="driftline",
        help="Continuous network discovery and exposure ranking, for networks that you are authorised to probe.",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.callback(invoke_without_command=True)(_root)
    known = {*COMMANDS, *NOUNS}
    wanted = {word} & known or (set() if word == "--version" else known)
    for module in dict.fromkeys(module for name, module in COMMANDS.items() if name in wanted):
        app.registered_commands.extend(_group(module).registered_commands)
    for noun, module in NOUNS.items():
        if noun in wanted:
            app.add_typer(_group(module), name=noun)
    return app


def _group(module: str) -> typer.Typer:
    group: typer.Typer = importlib.import_module(f"{PACKAGE}.{module}").app
    return group


def _root(context: typer.Context, show_version: bool = typer.Option(False, "--version", help="Print the version and exit.")) -> None:
    if show_version:
        from importlib.metadata import version

        sys.stdout.write(f"driftline {version('driftline')}\n")
        raise typer.Exit
    if context.invoked_subcommand == "sweep":
        return  # it logs nothing, and the wait for the logging library would be a part of its time
    from infra.core.logs import configure_logs
    from infra.core.settings import TelemetrySettings

    configure_logs(TelemetrySettings(log_level="warning"))  # to standard error: standard output is for results


def main() -> None:
    """Run the command; errors for people go to standard error, each with its exit code."""
    light = sys.argv[1:2] == ["sweep"]
    if light:
        _start_light()
    try:
        build(sys.argv[1] if len(sys.argv) > 1 else None)(standalone_mode=True)
    except SystemExit as end:
        if light and not end.code:
            _leave()
        raise
    except DriftlineError as error:
        _fail(error)
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        _fail(DriftlineError(f"This machine refuses: {error}."))
    except ValueError as error:
        if not _is_settings_error(error):
            raise
        _fail(BadInput(f"The settings can't be read: {str(error).strip().splitlines()[0]}.", "Mend the environment or driftline.toml."))


def _start_light() -> None:
    """A sweep is over in seconds, so its start counts: no threads for NumPy's algebra, no search for pydantic's plugins, no collections."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    gc.disable()  # until the sweep begins


def _leave() -> None:
    """End at once: to take all modules down takes 30 ms more."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        os._exit(1)
    os._exit(0)


def _is_settings_error(error: ValueError) -> bool:
    """Whether settings could not even be parsed: a variable that must be JSON, a file that is no TOML."""
    import tomllib

    from pydantic_settings import SettingsError

    return isinstance(error, SettingsError | tomllib.TOMLDecodeError)


def _fail(error: DriftlineError) -> None:
    from infra.app.output import tell

    tell(f"error: {error}", style="red")
    sys.exit(error.exit_code)


if __name__ == "__main__":
    main()
