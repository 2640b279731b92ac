"""A child process that can't outlive its parent: how the supervisor runs the broker and the roles."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path

import structlog

log = structlog.get_logger()

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

    def __init__(self, command: list[str], output: Path, environment: Mapping[str, str] | None = None) -> None:
        """Start `command`, its output going to the file, by default in our own environment. Raises OSError."""
        self._failed: OSError | None = None
        self._command = command
        started = threading.Event()
        # PDEATHSIG goes by the thread that forked, not by the process: so that thread has to live as long as the child.
        threading.Thread(target=self._keep, args=(command, output, environment, started), name="child-keeper", daemon=True).start()
        started.wait()
        if self._failed:
            raise self._failed

    def _keep(self, command: list[str], output: Path, environment: Mapping[str, str] | None, started: threading.Event) -> None:
        launcher = [sys.executable, "-I", "-S", "-c", _BIND_TO_PARENT, str(os.getpid())]
        try:
            with output.open("wb") as file:
                self._process = subprocess.Popen(
                    [*launcher, *command], stdin=subprocess.DEVNULL, stdout=file, stderr=file, start_new_session=True, env=environment
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

    def ask_to_stop(self) -> None:
        """SIGTERM, without waiting."""
        if self.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, timeout: float) -> None:
        """SIGTERM, and SIGKILL to its whole session if it still runs after `timeout` seconds."""
        if self.poll() is None:
            self.ask_to_stop()
            if self.wait(timeout) is None:
                log.warning("child_killed", pid=self.pid, command=self._command[-1], after_seconds=round(timeout, 1))
                self.kill()

    def kill(self) -> None:
        """End it and all that it started, at once."""
        if self.poll() is None:
            os.killpg(self.pid, signal.SIGKILL)
            self._process.wait()
