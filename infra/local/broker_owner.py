"""Ends a broker that outlived the Driftline that started it, and says what environment its Java gets.

The pid file names the broker and its owner (the process that started it), each with its start time, so that a pid that was given
to another process is never mistaken for ours.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil
import structlog

from infra.core.errors import Refused

_log = structlog.get_logger()


def java_environment() -> dict[str, str]:
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
