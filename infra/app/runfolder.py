"""The folder `run` under the data folder: a lock that one supervisor holds, and its notes on what it started, for `driftline status`."""

from __future__ import annotations

import fcntl
import json
import time
from pathlib import Path
from typing import IO, Any

from infra.core.errors import MissingPrerequisite
from infra.core.settings import Settings

TRIES = 3


def take_lock(settings: Settings) -> IO[str]:
    """The lock, held until the file is closed or the process ends. Raises MissingPrerequisite if another holds it."""
    folder = _folder(settings)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / "lock").open("a")
    except OSError as error:
        raise MissingPrerequisite(f"The data folder {settings.data_dir} can't be written ({error}).", "Set DRIFTLINE_DATA_DIR.") from None
    for _ in range(TRIES):  # `driftline status` touches the lock for an instant
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            time.sleep(0.1)
        else:
            return lock
    lock.close()
    raise MissingPrerequisite(
        f"Driftline is already running with the data folder {settings.data_dir}.", "Stop it first, or set another DRIFTLINE_DATA_DIR."
    )


def is_running(settings: Settings) -> bool:
    """Whether a supervisor holds the lock now; notes that a killed one left behind do not count."""
    try:
        with (_folder(settings) / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def write_notes(settings: Settings, notes: dict[str, Any]) -> None:
    """Replace the notes, whole."""
    draft = _folder(settings) / "processes.new"
    draft.write_text(json.dumps(notes))
    draft.replace(_notes(settings))


def read_notes(settings: Settings) -> dict[str, Any] | None:
    """The notes of the supervisor that runs; None if none does."""
    if not is_running(settings):
        return None
    try:
        notes: dict[str, Any] = json.loads(_notes(settings).read_text())
    except (OSError, ValueError):
        return None
    return notes


def remove_notes(settings: Settings) -> None:
    """Nothing runs any more."""
    _notes(settings).unlink(missing_ok=True)


def last_words(file: Path) -> str:
    """Why a role ended by its own word: the last reason in its log (JSON lines), or a last line that is none. One line, cut."""
    try:
        lines = file.read_text(errors="replace").splitlines()[-50:]
    except OSError:
        return ""
    for line in reversed(lines):
        try:
            said = json.loads(line)
        except ValueError:
            return line[:500]
        if reason := said.get("reason") or str(said.get("exception", "")).strip().rpartition("\n")[2]:
            return str(reason)[:500]
    return ""


def _folder(settings: Settings) -> Path:
    return settings.data_dir / "run"


def _notes(settings: Settings) -> Path:
    return _folder(settings) / "processes.json"
