"""`up`, `status`: the pipeline as a whole."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType

import typer

from infra.app.output import print_json, print_rows, tell
from infra.app.status import model_line, pipeline_status
from infra.app.supervisor import Supervisor
from infra.core.logs import configure_logs
from infra.core.settings import load_settings
from infra.core.trust import load_signers

app = typer.Typer()
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")
COLUMNS = {
    "role": "role",
    "state": "state",
    "memory_mb": "MB",
    "cpu_percent": "CPU %",
    "in_per_s": "in/s",
    "out_per_s": "out/s",
    "lag": "lag",
    "restarts": "restarts",
}


@app.command()
def up() -> None:
    """Start everything and watch over it until Ctrl-C."""
    settings = load_settings()
    # What goes well is told as progress; as a log it would be told twice.
    level = "warning" if settings.telemetry.log_level == "info" else settings.telemetry.log_level
    configure_logs(settings.telemetry.model_copy(update={"log_level": level}), roles="supervisor")
    started = time.monotonic()
    stop = threading.Event()
    _on_signal(stop)
    supervisor = Supervisor(settings, progress=lambda text: tell(f"{time.monotonic() - started:5.1f} s {text}"))
    try:
        supervisor.start(stop)
        if not stop.is_set():
            store = f"127.0.0.1:{settings.store.port}" if settings.clickhouse.dsn is None else "as DRIFTLINE_CLICKHOUSE__DSN says"
            tell(f"Driftline runs. Data: {settings.data_dir}  Kafka: {settings.bootstrap}  ClickHouse: {store}")
            keys = "" if load_signers(settings) else "'driftline grant keygen --network …' (nobody may sign grants yet), "
            tell(f"Next, in another terminal: {keys}'driftline grant create', 'driftline targets push', 'driftline findings list'.")
            tell("Ctrl-C stops it.")
        while not stop.wait(0.5):
            supervisor.watch()
    finally:
        supervisor.stop()
        tell("Stopped.")


@app.command()
def status(
    seconds: float = typer.Option(3.0, "--seconds", min=0.1, max=600.0, help="Measure rates and processor share for so long."),
    as_json: bool = JSON,
) -> None:
    """Show roles, lag, rates, memory, CPU and last errors. --json also gives pids and counts."""
    settings = load_settings()
    document = pipeline_status(settings, seconds)
    if as_json:
        print_json(document)
        return
    rows = [{shown: row[name] for name, shown in COLUMNS.items()} for row in document.rows]
    nothing = f"Nothing runs with the data folder {settings.data_dir}. Start it with 'driftline up'."
    print_rows("roles", tuple(COLUMNS.values()), rows, False, nothing)
    for row in document.rows:
        if row["last_error"]:
            tell(f"{row['role']}: {row['last_error']}")
        if line := model_line(row["details"]):
            tell(f"{row['role']}: {line}")
    if document.rows:
        tell(f"together: {document.memory_mb:.0f} MB, {document.cpu_percent:.1f} % of a core over {document.seconds:.0f} s")


def _on_signal(stop: threading.Event) -> None:
    def handle(_: int, __: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, handle)
