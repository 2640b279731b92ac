"""Waits until a started broker answers, and says in a sentence why it did not."""

from __future__ import annotations

import re
import shutil
import time
from pathlib import Path

from infra.core.errors import DriftlineError, MissingPrerequisite
from infra.local.broker_config import HOST, BrokerPlan
from infra.local.broker_ready import answers
from infra.local.child import Child

NEEDED_MB = 200
"""Least free space: segments' indexes and one batch of everything."""

_PAUSE = 0.02


def wait_until_ready(child: Child, plan: BrokerPlan, timeout: float) -> None:
    """Return when the broker answers a metadata request. Raises DriftlineError if it ends or is not ready in `timeout` seconds."""
    deadline = time.monotonic() + timeout
    log_begins = plan.log_file.stat().st_size if plan.log_file.is_file() else 0
    while not answers(HOST, plan.port, login=plan.access is not None):
        if child.poll() is not None:
            raise _why_it_ended(plan, log_begins)
        if time.monotonic() > deadline:
            raise DriftlineError(f"Kafka was not ready after {timeout:.0f} s.", f"Look into {plan.log_file}.")
        time.sleep(_PAUSE)


def require_space(plan: BrokerPlan, needed_mb: int = NEEDED_MB) -> None:
    """Raise MissingPrerequisite if the disk of the broker's folder is nearly full."""
    free_mb = shutil.disk_usage(plan.folder).free >> 20
    if free_mb < needed_mb:
        raise disk_full(plan, free_mb)


def disk_full(plan: BrokerPlan, free_mb: int) -> MissingPrerequisite:
    """The error for a disk without space."""
    return MissingPrerequisite(
        f"The disk is full: {plan.folder} has {free_mb} MB left, Kafka needs at least {NEEDED_MB} MB.",
        "Free some space, or set DRIFTLINE_DATA_DIR to a folder on a larger disk.",
    )


def _why_it_ended(plan: BrokerPlan, log_begins: int) -> DriftlineError:
    """The reason that a broker wrote before it ended: in the log from byte `log_begins` on, or on the JVM's console."""
    written = _text(plan.log_file, log_begins) + _text(plan.console_file)
    free_mb = shutil.disk_usage(plan.folder).free >> 20
    if "No space left on device" in written or free_mb < 1:
        return disk_full(plan, free_mb)
    if "Address already in use" in written:
        return MissingPrerequisite(
            f"Port {plan.port} or {plan.controller_port} was taken while Kafka started.",
            "Free them, or set DRIFTLINE_BROKER__PORT and DRIFTLINE_BROKER__CONTROLLER_PORT.",
        )
    if re.search(r"OutOfMemoryError|Could not reserve enough space", written):
        return MissingPrerequisite(f"Kafka had too little memory with a heap of {plan.heap_mb} MB.", "Raise DRIFTLINE_BROKER__HEAP_MB.")
    # The deepest cause that Java names is the most telling line.
    reasons = re.findall(r"^(?:Caused by: )?(?:[\w$.]+(?:Exception|Error): |Error: |Error occurred )(.+)", written, re.MULTILINE)
    reason = reasons[-1].strip().rstrip(".") if reasons else "it gave no reason"
    return DriftlineError(f"Kafka ended while it started: {reason}.", f"Look into {plan.log_file}.")


def _text(path: Path, begins: int = 0) -> str:
    """What stands in a log from a byte on; all of it if it is shorter, because log4j2 has begun a new file."""
    try:
        content = path.read_bytes()
    except OSError:
        return ""
    return content[begins if begins <= len(content) else 0 :].decode(errors="replace")
