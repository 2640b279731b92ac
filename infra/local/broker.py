"""The embedded Apache Kafka: one KRaft node on loopback, a child process with its data in `data_dir/kafka`.

What happens at a start, in order: a broker left by a killed run is ended, ports and folder are checked, Java and jars are found (the
jars fetched, the first time), the storage is formatted (the first time), Java runs, the broker answers.
"""

from __future__ import annotations

import errno
import socket
import sys
import time
from dataclasses import replace
from types import TracebackType
from typing import Self

import structlog

from infra.core.errors import MissingPrerequisite
from infra.core.logs import configure_logs
from infra.core.secret_files import admin_password_file, make_secret
from infra.core.settings import Settings, TelemetrySettings, load_settings
from infra.local.broker_access import BrokerAccess
from infra.local.broker_aot import ensure_cache
from infra.local.broker_config import HOST, BrokerPlan, Runtime, java_command, write_files
from infra.local.broker_owner import end_stale_broker, java_environment, note_owner
from infra.local.broker_storage import format_storage
from infra.local.broker_wait import disk_full, require_space, wait_until_ready
from infra.local.child import Child
from infra.local.jars import Progress, cache_folder, find_jars
from infra.local.java import find_java

_log = structlog.get_logger()

STOP_SECONDS = 15.0
"""A clean stop takes a quarter of a second; a broker that needs longer than this is killed, and recovers at its next start."""


def prepare(settings: Settings, progress: Progress | None = None) -> Runtime:
    """What a broker needs and can be had before it runs: Java, jars (45 MB, fetched once), AOT cache (some ten seconds, once).

    Raises MissingPrerequisite with what to do.
    """
    runtime = Runtime(find_java(settings.broker.java), tuple(find_jars(settings.broker.jars, progress)))
    return replace(runtime, aot_cache=ensure_cache(cache_folder(), runtime))


class Broker:
    """Starts, watches and stops the embedded broker; start() works again after a stop or a crash, with the data intact."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._child: Child | None = None
        self._pid_file = settings.data_dir / "kafka" / "broker.pid"

    def start(self, timeout: float = 30.0, progress: Progress | None = None) -> str:
        """Start it and return its bootstrap address once it answers; `timeout` is in seconds, without a first preparation.

        Raises MissingPrerequisite (Java, jars, port, disk, storage), Refused (another Driftline runs on this folder) or
        DriftlineError (it did not get ready), each with what to do.
        """
        if self.poll() is None and self._child is not None:
            return f"{HOST}:{self._settings.broker.port}"
        data_dir, broker = self._settings.data_dir.absolute(), self._settings.broker
        plan = BrokerPlan(
            data_dir / "kafka", data_dir / "logs", broker.port, broker.controller_port, broker.heap_mb, _access(self._settings)
        )
        end_stale_broker(self._pid_file, plan.properties_file)
        _require_ports(plan)
        try:
            write_files(plan)
            require_space(plan)
            runtime = prepare(self._settings, progress)
            begun = time.monotonic()
            format_storage(runtime, plan)
            self._child = Child(java_command(runtime, plan, "kafka.Kafka", plan.properties_file), plan.console_file, java_environment())
            note_owner(self._pid_file, self._child.pid)
        except OSError as error:
            self.stop()
            raise _unusable(plan, error) from None
        try:
            wait_until_ready(self._child, plan, timeout)
        except BaseException:
            self.stop()
            raise
        _log.info("broker_ready", bootstrap=plan.bootstrap, pid=self._child.pid, seconds=round(time.monotonic() - begun, 2))
        return plan.bootstrap

    def poll(self) -> int | None:
        """The exit status of the broker; None while it runs, and before it was started."""
        return self._child.poll() if self._child else None

    @property
    def pid(self) -> int | None:
        """The process id of the running broker, else None."""
        return self._child.pid if self._child and self._child.poll() is None else None

    def stop(self, timeout: float = STOP_SECONDS) -> None:
        """Stop it cleanly, by force after `timeout` seconds. Does nothing if it does not run."""
        if self._child is None:
            return
        self._child.stop(timeout)
        self._child = None
        self._pid_file.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        """Start it."""
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """Stop it."""
        self.stop()


def _access(settings: Settings) -> BrokerAccess | None:
    """Who may do what there; None where everyone on this machine may do everything. Makes the administrator's password, the first time."""
    if not settings.broker.sasl:
        return None
    password, broker = make_secret(admin_password_file(settings.data_dir)), settings.broker
    return BrokerAccess(password, broker.listen, broker.certificate_file, broker.client_ca_file)


def _require_ports(plan: BrokerPlan) -> None:
    """Raise MissingPrerequisite if a port can't be had."""
    for port, setting in ((plan.port, "DRIFTLINE_BROKER__PORT"), (plan.controller_port, "DRIFTLINE_BROKER__CONTROLLER_PORT")):
        with socket.socket() as trial:
            # As Java binds: connections of a broker that has just ended (TIME_WAIT) are no obstacle.
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind((HOST, port))
            except OSError as error:
                why = "is in use" if error.errno == errno.EADDRINUSE else f"can't be used ({error.strerror})"
                raise MissingPrerequisite(
                    f"Port {port} on {HOST}, which the embedded Kafka needs, {why}.",
                    f"Free it (`ss -ltnp 'sport = :{port}'` shows who holds it), or choose another with {setting}.",
                ) from None


def _unusable(plan: BrokerPlan, error: OSError) -> MissingPrerequisite:
    """Why Kafka's folder can't be used, for a person."""
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return disk_full(plan, 0)
    return MissingPrerequisite(
        f"Kafka can't use its folder {plan.folder}: {error.strerror} ({error.filename}).",
        "Make it writable for this user, or set DRIFTLINE_DATA_DIR to another folder.",
    )


if __name__ == "__main__":
    sys.stderr.write("Checking Kafka's jars and what makes it start in a second; to make the latter takes ten seconds, once.\n")
    configure_logs(TelemetrySettings(log_level="warning"))
    prepare(load_settings())
