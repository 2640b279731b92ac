"""`driftline up`: the broker and every role as child processes, started in order, restarted with back-off, drained at the end.

Order: store (it takes longest and needs no Kafka) → broker → topics → the other roles, which wait for the store by themselves.
They end the other way round: roles, store, broker. What runs is noted in the run folder for `driftline status`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from threading import Event as Flag
from typing import IO

import structlog

from infra.app.logins import login_environment, make_logins
from infra.app.roles import GROUPS, health_port
from infra.app.runfolder import last_words, remove_notes, take_lock, write_notes
from infra.core.errors import DriftlineError
from infra.core.settings import Settings
from infra.kafka.topics import TopicAdmin
from infra.local.broker import Broker
from infra.local.child import Child
from infra.local.jars import missing_bytes

log = structlog.get_logger()
Progress = Callable[[str], None]
FUSE_EXIT = 5
START_SECONDS = 120.0
BACKOFF_SECONDS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)
STEADY_SECONDS = 60.0
# Together below 30 s, which is what service managers commonly wait before they kill.
DRAIN_SECONDS, STORE_SECONDS, BROKER_SECONDS = 13.0, 7.0, 8.0


@dataclass(slots=True)
class Member:
    """One child process: the roles in it, and how it fares."""

    roles: tuple[str, ...]
    port: int | None
    child: Child | None = None
    started: float = 0.0
    restarts: int = 0
    retry_at: float = 0.0
    failures: int = 0
    last_exit: int | None = None
    last_error: str = ""
    given_up: bool = False

    @property
    def name(self) -> str:
        """The roles, joined."""
        return "+".join(self.roles)

    def put_off(self, now: float) -> float:
        """Count a failure; returns in how many seconds it is to be tried again."""
        wait = BACKOFF_SECONDS[min(self.failures, len(BACKOFF_SECONDS) - 1)]
        self.failures, self.retry_at = self.failures + 1, now + wait
        return wait


@dataclass(slots=True)
class Supervisor:
    """Starts, watches, restarts and stops the whole pipeline on this machine."""

    settings: Settings
    progress: Progress = lambda _: None
    groups: tuple[tuple[str, ...], ...] = GROUPS
    members: list[Member] = field(default_factory=list)
    _kafka: Member = field(default_factory=lambda: Member(("kafka",), None))
    _broker: Broker | None = None
    _lock: IO[str] | None = None

    def claim(self) -> None:
        """Keep others from this data folder. Raises MissingPrerequisite if one of them runs with it."""
        self._lock = self._lock or take_lock(self.settings)

    def start(self, stop: Flag) -> None:
        """Bring everything up; returns when every role is ready, or `stop` is set. Raises DriftlineError with what to do."""
        self.claim()
        (self.settings.data_dir / "logs").mkdir(exist_ok=True)
        self.members = [Member(roles, health_port(self.settings, roles)) for roles in self.groups]
        self._spawn(self.members[0])
        if self.settings.kafka.bootstrap is None:
            absent = missing_bytes(self.settings.broker.jars)
            self.progress(f"downloading Kafka's jars ({absent / 1e6:.0f} MB, once)" if absent else "starting Kafka")
            self._broker = Broker(self.settings)
            self._broker.start()
            self._kafka.started = time.monotonic()
        if not stop.is_set():
            self.progress("making topics")
            TopicAdmin(self.settings).apply()
            if self._broker is not None and self.settings.broker.sasl:
                make_logins(self.settings, self.groups)
        for member in self.members[1:]:
            if not stop.is_set():
                self._spawn(member)
        self._await_ready(stop)

    def _spawn(self, member: Member) -> None:
        file = self._log_file(member)
        if file.exists():
            file.replace(file.with_suffix(".log.1"))
        self.progress(f"starting {member.name}")
        # Few malloc arenas: several threads a role would otherwise hold memory that they no longer need.
        environment = {**os.environ, "MALLOC_ARENA_MAX": "2", **login_environment(self.settings, member.roles)}
        member.child = Child([sys.executable, "-m", "infra.app.cli", "run", *member.roles], file, environment)
        member.started = time.monotonic()
        self._write_down()

    def _await_ready(self, stop: Flag) -> None:
        deadline = time.monotonic() + START_SECONDS
        waiting = list(self.members)
        while waiting and not stop.is_set():
            for member in list(waiting):
                if member.child is not None and (code := member.child.poll()) is not None:
                    raise self._failed_start(member, code)
                if member.port is not None and answers(member.port, "/readyz"):
                    waiting.remove(member)
                    self.progress(f"{member.name} is ready")
            if time.monotonic() > deadline:
                names = ", ".join(member.name for member in waiting)
                raise DriftlineError(f"{names} did not become ready in {START_SECONDS:.0f} s.", f"See {self.settings.data_dir / 'logs'}.")
            stop.wait(0.1)

    def _failed_start(self, member: Member, code: int) -> DriftlineError:
        file = self._log_file(member)
        error = DriftlineError(f"{member.name} {_ended(code)} while starting: {last_words(file)}", f"See {file}.")
        error.exit_code = code if code in (2, 3, 4) else 1
        return error

    def watch(self) -> None:
        """One look at every child: restart what ended. Call it a few times a second."""
        now = time.monotonic()
        if self._broker is not None and self._broker.pid is None and now >= self._kafka.retry_at:
            self._restart_broker(self._broker, now)
        for member in self.members:
            try:
                self._watch(member, now)
            except OSError as error:
                member.last_error = str(error)
                log.error("role_not_started", roles=member.name, reason=str(error), again_in=member.put_off(now))

    def _restart_broker(self, broker: Broker, now: float) -> None:
        log.error("broker_ended", exit_code=broker.poll())
        self.progress("Kafka ended; starting it again")
        try:
            broker.start()
        except (DriftlineError, OSError) as error:
            self._kafka.last_error = str(error)
            log.error("broker_not_restarted", reason=str(error), again_in=self._kafka.put_off(now))
        else:
            self._kafka.restarts, self._kafka.failures = self._kafka.restarts + 1, 0
        self._write_down()

    def _watch(self, member: Member, now: float) -> None:
        if member.given_up:
            return
        if member.child is not None:
            code = member.child.poll()
            if code is None:
                if member.failures and now - member.started > STEADY_SECONDS:
                    member.failures = 0
                return
            self._bury(member, code, now)
        if not member.given_up and now >= member.retry_at:
            member.restarts += 1
            self._spawn(member)

    def _bury(self, member: Member, code: int, now: float) -> None:
        member.child, member.last_exit = None, code
        words = last_words(self._log_file(member)) if code > 0 else ""  # who was killed had no time to say why
        member.last_error = f"{_ended(code)}: {words}" if words else _ended(code)
        if code == FUSE_EXIT:
            member.given_up = True
            log.error("role_given_up", roles=member.name, reason=member.last_error)
        else:
            log.warning("role_ended", roles=member.name, reason=member.last_error, again_in=member.put_off(now))
        self._write_down()

    def stop(self) -> None:
        """Drain the roles (SIGTERM, the store last), then stop the broker. Does nothing where nothing was started."""
        if self._lock is None:
            return
        self.progress("stopping")
        for group, seconds in ((self.members[1:], DRAIN_SECONDS), (self.members[:1], STORE_SECONDS)):
            running = [member.child for member in group if member.child is not None]
            for child in running:
                child.ask_to_stop()
            deadline = time.monotonic() + seconds
            for child in running:
                child.stop(max(0.1, deadline - time.monotonic()))
        if self._broker is not None:
            self._broker.stop(BROKER_SECONDS)
        remove_notes(self.settings)
        self._lock.close()
        self._lock = None

    def _write_down(self) -> None:
        broker = [(self._kafka, self._broker.pid)] if self._broker is not None else []
        entries = [
            {
                "roles": member.roles,
                "port": member.port,
                "pid": pid,
                "restarts": member.restarts,
                "last_exit": member.last_exit,
                "last_error": member.last_error,
                "given_up": member.given_up,
            }
            for member, pid in [*broker, *((member, member.child.pid if member.child else None) for member in self.members)]
        ]
        kafka = self._broker.pid if self._broker is not None else None
        try:
            write_notes(self.settings, {"supervisor": os.getpid(), "broker": kafka, "members": entries})
        except OSError as error:  # a full disk: what runs goes on, what ended is tried again
            log.error("notes_not_written", reason=str(error))

    def _log_file(self, member: Member) -> Path:
        return self.settings.data_dir / "logs" / f"{member.name}.log"


def _ended(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"


def answers(port: int, path: str, timeout: float = 1.0) -> bool:
    """Whether a loopback endpoint answers 200."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=timeout) as response:
            return bool(response.status == 200)
    except (OSError, HTTPException):
        return False
