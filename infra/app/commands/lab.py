"""`driftline lab`: the practice network in namespaces of this machine."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import typer

from infra.app.output import err, print_rows
from infra.core.errors import MissingPrerequisite
from infra.core.settings import Settings, load_settings
from infra.local.lab.lab import Lab

app = typer.Typer(help="A small network with real services, in namespaces of this machine, to practise on.", no_args_is_help=True)
JSON = typer.Option(False, "--json", help="Print JSON on standard output.")


@app.command("up")
def up(as_json: bool = JSON) -> None:
    """Make the lab and hold it until Ctrl-C; nothing is left behind."""
    problems = Lab.prerequisites()
    if problems:
        raise MissingPrerequisite("The lab can't be made here: " + "; ".join(problems) + ".", "Try 'driftline doctor'.")
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    settings = load_settings()
    lab = Lab(settings.data_dir)
    wish = threading.Event()
    signal.signal(signal.SIGUSR1, lambda *_: wish.set())
    with lab, _noted(settings):
        rows = [
            {"address": one.address, "port": one.port, "kind": one.kind, "product": one.product, "version": one.version}
            for one in lab.truth()
        ]
        print_rows("the lab", ("address", "port", "kind", "product", "version"), rows, as_json, "")
        err().print("The lab stands. 'driftline lab change' in another terminal changes it, Ctrl-C takes it down.")
        while not stop.wait(0.5):
            if wish.is_set():
                wish.clear()
                lab.change()
                err().print("The lab has changed.")


@app.command("change")
def change() -> None:
    """Open one service, close one, swap a certificate."""
    file = _pid_file(load_settings())
    try:
        process = psutil.Process(int(file.read_text()))
        if "lab" not in process.cmdline():
            raise psutil.NoSuchProcess(process.pid)
    except (OSError, ValueError, psutil.Error):
        raise MissingPrerequisite("No lab is up.", "Start it with 'driftline lab up'.") from None
    process.send_signal(signal.SIGUSR1)


@app.command("down")
def down() -> None:
    """Take away whatever a lab left on this machine."""
    Lab(load_settings().data_dir).clean()
    err().print("No lab is left.")


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
