"""Formats Kafka's storage once, and knows which Kafka did it."""

from __future__ import annotations

import base64
import re
import subprocess
import uuid
from pathlib import Path

from infra.core.errors import DriftlineError, MissingPrerequisite
from infra.local.broker_config import BrokerPlan, Runtime, java_command
from infra.local.jars import KAFKA_VERSION

_MARK = "kafka-version"
_FORMAT_SECONDS = 60


def format_storage(runtime: Runtime, plan: BrokerPlan) -> None:
    """Format the storage if that was not done (or not finished) before. Needs the plan's files on disk.

    Raises MissingPrerequisite if a newer Kafka formatted it, DriftlineError if Kafka's tool fails.
    """
    mark = plan.folder / _MARK
    if mark.is_file():
        require_readable(plan, mark.read_text().strip())
        return
    tool = (
        "kafka.tools.StorageTool",
        "format",
        "--ignore-formatted",
        "--cluster-id",
        plan.quorum.cluster_id if plan.quorum else _cluster_id(plan.storage),
    )
    command = java_command(runtime, plan, *tool, "--config", plan.properties_file)
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_FORMAT_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise DriftlineError(f"Formatting Kafka's storage took longer than {_FORMAT_SECONDS} s.", "Is the machine overloaded?") from None
    if done.returncode:
        said = [line for line in (done.stderr + done.stdout).splitlines() if line.strip() and not line.startswith("\tat ")]
        raise DriftlineError(f"Kafka's storage in {plan.storage} can't be formatted: {' '.join(said[-1:])}.", f"Look into {plan.log_file}.")
    mark.write_text(f"{KAFKA_VERSION}\n")


def require_readable(plan: BrokerPlan, formatted_by: str) -> None:
    """Raise MissingPrerequisite if the storage is of a newer Kafka than ours: an older one's is read as it is."""
    if _release(formatted_by) > _release(KAFKA_VERSION):
        raise MissingPrerequisite(
            f"The storage in {plan.folder} was formatted by Kafka {formatted_by}, which Kafka {KAFKA_VERSION} can't read.",
            "Use the newer Driftline, or set DRIFTLINE_DATA_DIR to another folder, or move that folder away to begin anew.",
        )


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:2])


def _cluster_id(storage: Path) -> str:
    """The id of a format that was not finished, else a new one: a UUID in URL-safe base64, 22 characters."""
    try:
        found = re.search(r"^cluster\.id=(\S+)$", (storage / "meta.properties").read_text(), re.MULTILINE)
    except OSError:
        found = None
    # Kafka's tools take an id that begins with "-" for an option.
    return found[1] if found else base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")
