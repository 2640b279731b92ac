"""Runs the broker's Java as a child that can't outlive its parent, and ends one that did all the same.

The pid file names the broker and its owner (the process that started it), each with its start time, so that a pid that was given
to another process is never mistaken for ours.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import structlog

from infra.core.errors import Refused

_log = structlog.get_logger()

# Runs in a fresh interpreter, which then becomes the program: asks Linux for SIGKILL at the parent's death (prctl(2),
# PR_SET_PDEATHSIG = 1), and leaves if the parent died before. No `preexec_fn`: it can deadlock in a process with threads.
_BIND_TO_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9, 0, 0, 0)
if os.getppid() != int(sys.argv[1]): sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class Child:
    """A process that dies with this one, in a session of its own: Ctrl-C in the terminal reaches only us, and we stop it in order."""

    def __init__(self, command: list[str], output: Path) -> None:
        """Start `command`, its output going to the file. Raises OSError."""
        self._failed: OSError | None = None
        started = threading.Event()
        # PDEATHSIG goes by the thread that forked, not by the process: so that thread has to live as long as the child.
        threading.Thread(target=self._keep, args=(command, output, started), name="broker-keeper", daemon=True).start()
        started.wait()
        if self._failed:
            raise self._failed

    def _keep(self, command: list[str], output: Path, started: threading.Event) -> None:
        launcher = [sys.executable, "-I", "-S", "-c", _BIND_TO_PARENT, str(os.getpid())]
        try:
            with output.open("wb") as file:
                self._process = subprocess.Popen(
                    [*launcher, *command], stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, env=_environment()
                )
        except OSError as error:
            self._failed = error
            return
        finally:
            started.set()
        self._process.wait()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def poll(self) -> int | None:
        """Its exit status, None while it runs."""
        return self._process.poll()

    def wait(self, timeout: float) -> int | None:
        """Wait for its end, at most `timeout` seconds; None if it still runs."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return None

    def stop(self, timeout: float) -> None:
        """SIGTERM, and SIGKILL to its whole session if it still runs after `timeout` seconds."""
        if self.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            if self.wait(timeout) is None:
                _log.warning("broker_killed", pid=self.pid, after_seconds=timeout)
                self.kill()

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()


def _environment() -> dict[str, str]:
    """Ours, without the variables that would change the JVM behind our back, and with few malloc arenas (memory)."""
    java = {"JAVA_TOOL_OPTIONS", "JDK_JAVA_OPTIONS", "_JAVA_OPTIONS", "CLASSPATH"}
    return {name: value for name, value in os.environ.items() if name not in java} | {"MALLOC_ARENA_MAX": "2"}


@dataclass(frozen=True, slots=True)
class PidFile:
    """Who runs the broker of a folder. Start times are in seconds since the epoch, as psutil gives them."""

    pid: int
    started: float
    owner: int
    owner_started: float

    @classmethod
    def read(cls, path: Path) -> PidFile | None:
        """None if there is none, or it makes no sense."""
        try:
            return cls(**json.loads(path.read_text()))
        except (OSError, ValueError, TypeError):
            return None


def note_owner(path: Path, pid: int) -> None:
    """Write down that this process has started the broker `pid`, whole or not at all. Raises OSError."""
    try:
        noted = PidFile(pid, psutil.Process(pid).create_time(), os.getpid(), psutil.Process().create_time())
    except psutil.NoSuchProcess:
        return  # it ended at once: whoever waits for it will say why
    draft = path.with_suffix(".new")
    draft.write_text(json.dumps(asdict(noted)))
    draft.replace(path)


def end_stale_broker(path: Path, properties_file: Path) -> None:
    """End the broker that a killed owner left on this folder, if it is truly that one.

    Raises Refused if the broker and the process that owns it are both alive: another Driftline runs there.
    """
    noted = PidFile.read(path)
    if noted is None:
        return
    broker = _alive(noted.pid, noted.started)
    if broker is None:
        return
    if _alive(noted.owner, noted.owner_started):
        raise Refused(
            f"The broker of {properties_file.parent} runs already (process {noted.pid}, started by process {noted.owner}).",
            "Stop that Driftline first, or give this one a folder of its own with DRIFTLINE_DATA_DIR.",
        )
    try:
        if str(properties_file) in broker.cmdline():
            _log.info("stale_broker_ended", pid=noted.pid)
            broker.kill()
            broker.wait(10)
    except psutil.NoSuchProcess:
        return


def _alive(pid: int, started: float) -> psutil.Process | None:
    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < 0.02 and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return None
    return process if same else None
