"""Starts and stops the daemons of a lab, and waits until each listens, without sending a packet."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

from infra.core.errors import MissingPrerequisite
from infra.local.lab.plan import Service
from infra.local.lab.recipes import Recipe
from infra.local.packages import environment

NOBODY = 65534
START_SECONDS = 5.0
STOP_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class Place:
    """Where daemons run: their files' folder as seen from here, how a recipe becomes a command line there, and as whom (None: as us)."""

    folder: Path
    command: Callable[[Service, Recipe], list[str]]
    user: int | None = None


class Daemons:
    """The daemons that run now, by the name of their service."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._running: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, wanted: Iterable[tuple[Service, Recipe]]) -> None:
        """Start all at once, return when all listen. Raises MissingPrerequisite with the daemon's last words."""
        services = []
        for service, recipe in wanted:
            folder = self._place.folder / service.name
            _write(folder, recipe, self._place.user)
            with (folder / "log").open("wb") as log:
                command = self._place.command(service, recipe)
                self._running[service.name] = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True, env=environment()
                )
            services.append(service)
        deadline = time.monotonic() + START_SECONDS
        for service in services:
            self._await(service, deadline)

    def _await(self, service: Service, deadline: float) -> None:
        process = self._running[service.name]
        while not _listens(process.pid, service.port):
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self._place.folder / service.name / "log").read_text(errors="replace").strip().splitlines()
                said = " ".join(log[-3:]) or "nothing"
                raise MissingPrerequisite(f"The lab's {service.kind} on port {service.port} did not start. It said: {said}")
            time.sleep(0.01)

    def stop(self, names: Iterable[str]) -> None:
        """End these daemons, with their children; return when they are gone."""
        stopping = [self._running.pop(name) for name in names if name in self._running]
        for process in stopping:
            for one in _family(process.pid):
                # nsenter does not pass signals on: the daemon itself is told, and nsenter ends with it.
                if one.pid != process.pid or not one.children():
                    one.terminate()
        for process in stopping:
            try:
                process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                for one in _family(process.pid):
                    one.kill()
                process.wait(STOP_SECONDS)

    def stop_all(self) -> None:
        """End every daemon."""
        self.stop(list(self._running))


def _family(pid: int) -> list[psutil.Process]:
    try:
        parent = psutil.Process(pid)
        return [*reversed(parent.children(recursive=True)), parent]
    except psutil.NoSuchProcess:
        return []


def _listens(pid: int, port: int) -> bool:
    """Whether a TCP port is open in the network namespace of the daemon that `pid` started (proc(5), net/tcp: state 0A is LISTEN)."""
    family = _family(pid)
    if not family:
        return False
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/{family[0].pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            return False
        for line in lines:
            fields = line.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                return True
    return False


def _write(folder: Path, recipe: Recipe, user: int | None) -> None:
    """Put a recipe's files in place, readable by the user that the daemon runs as only."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    owned = [folder]
    for name, text in recipe.files.items():
        path = folder / name
        if name.endswith("/"):
            path.mkdir(exist_ok=True)
        else:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            path.chmod(0o644 if "/" in name else 0o600)
            owned.append(path)
    if user is not None and not recipe.as_root:
        for path in owned:
            os.chown(path, user, user)
