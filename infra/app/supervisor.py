"""`driftline up`: the broker and every role as child processes, started in order, restarted with back-off, drained at the end.

Order: broker → topics → store → the other roles. What runs is written to `run/processes.json` in the data folder for `driftline status`.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event as Flag
from typing import IO

import structlog

from infra.app.roles import GROUPS, health_port
from infra.core.errors import DriftlineError, MissingPrerequisite
from infra.core.settings import Settings
from infra.kafka.topics import TopicAdmin
from infra.local.broker import Broker
from infra.local.child import Child

log = structlog.get_logger()
Progress = Callable[[str], None]
FUSE_EXIT = 5
START_SECONDS = 90.0
BACKOFF_SECONDS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS = 60.0


@dataclass(slots=True)
class Member:
    """One child process: the roles in it, and how it fares."""

    roles: tuple[str, ...]
    port: int
    child: Child | None = None
    started: float = 0.0
    restarts: int = 0
    retry_at: float = 0.0
    failures: int = 0
    last_exit: int | None = None
    given_up: bool = False

    @property
    def name(self) -> str:
        """The roles, joined."""
        return "+".join(self.roles)


@dataclass(slots=True)
class Supervisor:
    """Starts, watches, restarts and stops the whole pipeline on this machine."""

    settings: Settings
    progress: Progress = lambda _: None
    members: list[Member] = field(default_factory=list)
    _broker: Broker | None = None
    _lock: IO[str] | None = None

    def start(self, stop: Flag) -> None:
        """Bring everything up; returns when every role is ready, or `stop` is set. Raises DriftlineError with what to do."""
        self._take_lock()
        if self.settings.kafka.bootstrap is None:
            self.progress("starting Kafka")
            self._broker = Broker(self.settings)
            self._broker.start(progress=None)
        self.progress("making topics")
        TopicAdmin(self.settings).apply()
        self.members = [Member(roles, health_port(self.settings, roles)) for roles in GROUPS]
        self._start_in_order(stop)

    def _start_in_order(self, stop: Flag) -> None:
        store, *others = self.members
        for group in ([store], others):
            for member in group:
                self._spawn(member)
            self._await_ready(group, stop)

    def _spawn(self, member: Member) -> None:
        logs = self.settings.data_dir / "logs"
        logs.mkdir(parents=True, exist_ok=True)
        file = logs / f"{member.name}.log"
        if file.exists():
            file.replace(file.with_suffix(".log.1"))
        self.progress(f"starting {member.name}")
        # Few malloc arenas: several threads a role would otherwise hold memory that they no longer need.
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2"}
        member.child = Child([sys.executable, "-m", "infra.app.cli", "run", *member.roles], file, environment)
        member.started = time.monotonic()
        self._write_down()

    def _await_ready(self, members: list[Member], stop: Flag) -> None:
        deadline = time.monotonic() + START_SECONDS
        waiting = list(members)
        while waiting and not stop.is_set():
            for member in list(waiting):
                if member.child is not None and (code := member.child.poll()) is not None:
                    raise DriftlineError(f"{member.name} ended with exit code {code} while starting.", self._last_words(member))
                if answers(member.port, "/readyz"):
                    waiting.remove(member)
                    self.progress(f"{member.name} is ready")
            if time.monotonic() > deadline:
                names = ", ".join(member.name for member in waiting)
                raise DriftlineError(f"{names} did not become ready in {START_SECONDS:.0f} s.", f"See {self.settings.data_dir / 'logs'}.")
            stop.wait(0.1)

    def watch(self) -> None:
        """One look at every child: restart what ended. Call it a few times a second."""
        if self._broker is not None and self._broker.poll() is not None:
            log.error("broker_ended", exit_code=self._broker.poll())
            self.progress("Kafka ended; starting it again")
            self._broker.start(progress=None)
        for member in self.members:
            self._watch(member, time.monotonic())

    def _watch(self, member: Member, now: float) -> None:
        if member.given_up:
            return
        if member.child is not None:
            code = member.child.poll()
            if code is None:
                if member.failures and now - member.started > STEADY_SECONDS:
                    member.failures = 0
                return
            member.child, member.last_exit = None, code
            if code == FUSE_EXIT:
                member.given_up = True
                log.error("role_given_up", roles=member.name, reason="most of its records were bad", hint=self._last_words(member))
                self._write_down()
                return
            member.retry_at = now + BACKOFF_SECONDS[min(member.failures, len(BACKOFF_SECONDS) - 1)]
            member.failures += 1
            log.warning("role_ended", roles=member.name, exit_code=code, again_in=round(member.retry_at - now, 1))
        if now >= member.retry_at:
            member.restarts += 1
            self._spawn(member)

    def stop(self) -> None:
        """Drain the roles (SIGTERM, the store last), then stop the broker."""
        self.progress("stopping")
        for group in (self.members[1:], self.members[:1]):
            running = [member.child for member in group if member.child is not None]
            for child in running:
                child.ask_to_stop()
            for child in running:
                child.stop(25.0)
        if self._broker is not None:
            self._broker.stop()
        (self._run_folder / "processes.json").unlink(missing_ok=True)
        if self._lock is not None:
            self._lock.close()

    @property
    def _run_folder(self) -> Path:
        return self.settings.data_dir / "run"

    def _take_lock(self) -> None:
        try:
            self._run_folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise MissingPrerequisite(
                f"The data folder {self.settings.data_dir} can't be written ({error}).", "Set DRIFTLINE_DATA_DIR."
            ) from None
        self._lock = (self._run_folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise MissingPrerequisite(
                f"Driftline is already running with the data folder {self.settings.data_dir}.",
                "Stop it first, or set another DRIFTLINE_DATA_DIR.",
            ) from None

    def _write_down(self) -> None:
        entries = [
            {
                "roles": member.roles,
                "port": member.port,
                "pid": member.child.pid if member.child else None,
                "restarts": member.restarts,
                "last_exit": member.last_exit,
                "given_up": member.given_up,
            }
            for member in self.members
        ]
        broker = self._broker.pid if self._broker is not None else None
        document = {"supervisor": os.getpid(), "broker": broker, "members": entries}
        file = self._run_folder / "processes.json"
        file.with_suffix(".new").write_text(json.dumps(document))
        file.with_suffix(".new").replace(file)

    def _last_words(self, member: Member) -> str:
        file = self.settings.data_dir / "logs" / f"{member.name}.log"
        lines = file.read_text(errors="replace").splitlines() if file.exists() else []
        return f"Its log {file} ends: {lines[-1][:500]}" if lines else f"See {file}."


def answers(port: int, path: str, timeout: float = 1.0) -> bool:
    """Whether a loopback endpoint answers 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as response:
            return bool(response.status == 200)
    except OSError:
        return False
