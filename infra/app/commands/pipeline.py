"""`up`, `run`, `status`, `agents`: the pipeline as a whole."""

from __future__ import annotations

import signal
import sys
import threading
import time
from types import FrameType

import typer

from infra.app.output import err, print_json, print_rows
from infra.app.roles import MODULES
from infra.app.runner import run_roles
from infra.app.status import pipeline_status
from infra.app.supervisor import Supervisor
from infra.core.logs import configure_logs
from infra.core.settings import load_settings

app = typer.Typer()
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command()
def up() -> None:
    """Start everything on this machine and watch over it until Ctrl-C."""
    settings = load_settings()
    configure_logs(settings.telemetry, roles="supervisor")
    console = err()
    started = time.monotonic()
    stop = threading.Event()
    _on_signal(stop)
    supervisor = Supervisor(settings, progress=lambda text: console.print(f"[dim]{time.monotonic() - started:5.1f} s[/] {text}"))
    try:
        supervisor.start(stop)
        if not stop.is_set():
            console.print(
                f"Driftline runs. Data: {settings.data_dir}  Kafka: {settings.bootstrap}  ClickHouse: 127.0.0.1:{settings.store.port}"
            )
            console.print("Next: 'driftline grant create', 'driftline targets push', 'driftline findings list'. Ctrl-C stops it.")
        while not stop.wait(0.5):
            supervisor.watch()
    finally:
        supervisor.stop()


@app.command()
def run(roles: list[str] = typer.Argument(help=f"Roles to run in this process: {', '.join(MODULES)}.")) -> None:  # noqa: B008
    """Run one or more roles in this process, for a cluster; more processes share the work."""
    sys.exit(run_roles(load_settings(), tuple(roles)))


@app.command()
def status(as_json: bool = JSON) -> None:
    """Show roles, lag, rates, last errors, memory and processor share."""
    document = pipeline_status(load_settings())
    if as_json:
        print_json(document)
        return
    rows = [dict(row) for row in document.rows]
    print_rows(
        "roles",
        ("role", "state", "pid", "memory_mb", "cpu_percent", "received", "emitted", "lag", "restarts", "last_error"),
        rows,
        False,
        "Nothing runs here. Start it with 'driftline up'.",
    )
    if rows:
        err().print(f"together: {document.memory_mb:.0f} MB, {document.cpu_percent:.1f} % of a core over {document.seconds:.0f} s")


def _on_signal(stop: threading.Event) -> None:
    def handle(_: int, __: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handle)
