"""`driftline lab`: the practice network in namespaces of this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import typer

from infra.app.output import print_rows, tell
from infra.core.errors import MissingPrerequisite
from infra.core.settings import Settings, load_settings
from infra.local.lab.lab import Lab

app = typer.Typer(help="A small network with real services to practise on.", no_args_is_help=True)
DOWN_SECONDS = 20.0
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command("up")
def up(as_json: bool = JSON) -> None:
    """Make the lab and hold it until Ctrl-C. Nothing is left behind."""
    problems = Lab.prerequisites()
    if problems:
        raise MissingPrerequisite("The lab can't be made here: " + "; ".join(problems) + ".", "Try 'driftline doctor'.")
    settings = load_settings()
    if _holder(settings):
        raise MissingPrerequisite("A lab is up already.", "Change it with 'driftline lab change', or end it with 'driftline lab down'.")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda *_: stop.set())
    lab = Lab(settings.data_dir)
    wish = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: wish.set())
    with lab, _noted(settings):
        rows = [
            {"address": one.address, "port": one.port, "kind": one.kind, "product": one.product, "version": one.version}
            for one in lab.truth()
        ]
        print_rows("the lab", ("address", "port", "kind", "product", "version"), rows, as_json, "")
        tell("The lab stands. 'driftline lab change' in another terminal changes it, Ctrl-C takes it down.")
        while not stop.wait(0.5):
            if wish.is_set():
                wish.clear()
                lab.change()
                tell("The lab has changed.")


@app.command("change")
def change() -> None:
    """Open one service, close one, swap a certificate."""
    holder = _holder(load_settings())
    if holder is None:
        raise MissingPrerequisite("No lab is up.", "Start it with 'driftline lab up'.")
    holder.send_signal(signal.SIGUSR1)
    tell("The lab changes; its own terminal says when it is done.")


@app.command("down")
def down() -> None:
    """Take away whatever a lab left on this machine."""
    settings = load_settings()
    if holder := _holder(settings):
        holder.terminate()
        with suppress(psutil.Error):
            holder.wait(DOWN_SECONDS)
    if os.geteuid() != 0:
        raise MissingPrerequisite("Only root can take network namespaces away.", "Run it as root.")
    Lab(settings.data_dir).clean()
    tell("No lab is left.")


def _holder(settings: Settings) -> psutil.Process | None:
    """The process that holds the lab of this data folder, if one does."""
    try:
        process = psutil.Process(int(_pid_file(settings).read_text()))
        return process if "lab" in process.cmdline() else None
    except (OSError, ValueError, psutil.Error):
        return None


def _pid_file(settings: Settings) -> Path:
    return settings.data_dir / "lab" / "holder.pid"


@contextmanager
def _noted(settings: Settings) -> Iterator[None]:
    """Leave word of who holds the lab, for `lab change`."""
    file = _pid_file(settings)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(str(os.getpid()))
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
