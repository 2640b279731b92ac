"""Runs one or more roles in this process, each in its thread, until a signal, an error or a hang of one ends them all."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from types import FrameType
from typing import get_args

import structlog

from infra.app.roles import Run, health_port, load_role
from infra.core.clock import SetBack
from infra.core.errors import DriftlineError, MissingPrerequisite
from infra.core.logs import configure_logs
from infra.core.settings import Settings
from infra.core.telemetry import TELEMETRY, Stage, Telemetry, serve

log = structlog.get_logger()
DRAIN_SECONDS = 12.0
HANG_SECONDS = 360.0  # longer than the longest single wait, that for an insert into ClickHouse
ANEW = 1  # exit code: to be started again


def run_roles(settings: Settings, names: tuple[str, ...], announce: Callable[[], None] = lambda: None) -> int:
    """Run these roles until SIGTERM or SIGINT; then drain. Returns the exit code: 0, or that of the first role that failed.

    A role whose loop does not turn any more, because a library's call never returns, ends them too: its supervisor starts it anew. So does
    a clock that was set back, for which such a call would wait.
    """
    configure_logs(settings.telemetry, roles=",".join(names))
    runs = {name: load_role(name) for name in names}
    declare_metrics(TELEMETRY, names)
    stop = threading.Event()
    _on_signal(stop)
    port = health_port(settings, names)
    try:
        serve(port)
    except OSError as error:
        raise MissingPrerequisite(
            f"Port {port} for health and metrics is in use ({error}).", "Set DRIFTLINE_TELEMETRY__PORT_BASE, or another DRIFTLINE_SLOT."
        ) from None
    workers = [_Worker(settings, name, run, stop) for name, run in runs.items()]
    for worker in workers:
        worker.start()
    announced = anew = False
    clock = SetBack()
    while not stop.wait(0.2 if not announced else 1.0):
        if not announced and all(worker.ready.is_set() for worker in workers):
            announced = True
            log.info("ready", port=port)
            announce()
        if not TELEMETRY.healthy(HANG_SECONDS):
            log.error("role_hangs", for_seconds=HANG_SECONDS)
            anew = True
            stop.set()
        if back := clock.seen():
            log.error("clock_set_back", seconds=back.total_seconds(), effect="clients of Kafka may wait that long; starting anew")
            anew = True
            stop.set()
    deadline = time.monotonic() + DRAIN_SECONDS
    for worker in workers:
        worker.join(max(0.0, deadline - time.monotonic()))
        if worker.is_alive():
            log.warning("role_not_drained", role=worker.name, after_seconds=DRAIN_SECONDS)
    return next((worker.exit_code for worker in workers if worker.exit_code), ANEW if anew else 0)


def declare_metrics(telemetry: Telemetry, roles: tuple[str, ...]) -> None:
    """Let every role show its four metrics from the start: a counter that is absent can't be told from a role that is."""
    telemetry.roles.update(roles)
    for role in roles:
        for metric in (telemetry.received, telemetry.emitted, telemetry.lag):
            metric.labels(role)
        for stage in get_args(Stage):
            telemetry.discarded.labels(role, stage)


class _Worker(threading.Thread):
    def __init__(self, settings: Settings, name: str, run: Run, stop: threading.Event) -> None:
        super().__init__(name=name, daemon=True)
        self._settings, self._run, self._stop_all = settings, run, stop
        self.ready = threading.Event()
        self.exit_code = 0

    def run(self) -> None:
        try:
            self._run(self._settings, self._stop_all, self._announce)
        except DriftlineError as error:
            self.exit_code = error.exit_code
            TELEMETRY.errors[self.name] = str(error)
            log.error("role_stopped", role=self.name, reason=str(error))
        except Exception as error:
            self.exit_code = 1
            TELEMETRY.errors[self.name] = f"{type(error).__name__}: {error}"
            log.exception("role_failed", role=self.name)
        finally:
            self._stop_all.set()

    def _announce(self) -> None:
        TELEMETRY.ready.add(self.name)
        self.ready.set()


def _on_signal(stop: threading.Event) -> None:
    def handle(_: int, __: FrameType | None) -> None:
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, handle)
