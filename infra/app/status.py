"""What runs on this machine and how it fares, from the supervisor's notes, each process's own word, and the kernel's."""

from __future__ import annotations

import json
import time
import urllib.request
from typing import Any

import psutil
from pydantic import BaseModel

from infra.core.settings import Settings


class PipelineStatus(BaseModel):
    """One row a process: roles, state, memory (proportional set size), processor share, counters."""

    rows: list[dict[str, Any]]
    memory_mb: float
    cpu_percent: float
    seconds: float


def pipeline_status(settings: Settings, seconds: float = 3.0) -> PipelineStatus:
    """Look at every process of the pipeline, measuring its processor share for `seconds`."""
    file = settings.data_dir / "run" / "processes.json"
    if not file.exists():
        return PipelineStatus(rows=[], memory_mb=0, cpu_percent=0, seconds=0)
    document = json.loads(file.read_text())
    entries = [{"roles": ["kafka"], "port": None, "pid": document["broker"], "restarts": 0}] if document["broker"] else []
    entries += [{"roles": ["supervisor"], "port": None, "pid": document["supervisor"], "restarts": 0}, *document["members"]]
    before = {entry["pid"]: _cpu(entry["pid"]) for entry in entries if entry["pid"]}
    begun = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begun
    rows: list[dict[str, Any]] = []
    memory = cpu = 0.0
    for entry in entries:
        share = 100 * (_cpu(entry["pid"]) - before.get(entry["pid"], 0.0)) / took if entry["pid"] else 0.0
        held = _memory_mb(entry["pid"])
        memory, cpu = memory + held, cpu + share
        rows += _rows(entry, held, share)
    return PipelineStatus(rows=rows, memory_mb=round(memory, 1), cpu_percent=round(cpu, 2), seconds=round(took, 1))


def _rows(entry: dict[str, Any], held: float, share: float) -> list[dict[str, Any]]:
    told = _told(entry["port"])
    found = []
    for number, role in enumerate(entry["roles"]):
        word = told.get(role, {})
        alive = entry["pid"] is not None and psutil.pid_exists(entry["pid"])
        state = (
            "stopped (fuse)"
            if entry.get("given_up")
            else "down"
            if not alive
            else "ready"
            if word.get("ready", entry["port"] is None)
            else "starting"
        )
        found.append(
            {
                "role": role,
                "state": state,
                "pid": entry["pid"],
                "memory_mb": round(held, 1) if number == 0 else None,
                "cpu_percent": round(share, 2) if number == 0 else None,
                "received": _whole(word.get("received")),
                "emitted": _whole(word.get("emitted")),
                "lag": _whole(word.get("lag")),
                "restarts": entry["restarts"],
                "last_error": word.get("last_error", ""),
            }
        )
    return found


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _told(port: int | None) -> dict[str, Any]:
    if port is None:
        return {}
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=2.0) as response:
            roles: dict[str, Any] = json.load(response)["roles"]
            return roles
    except (OSError, ValueError, KeyError):
        return {}


def _cpu(pid: int | None) -> float:
    try:
        times = psutil.Process(pid).cpu_times()
    except psutil.Error:
        return 0.0
    return float(times.user + times.system)


def _memory_mb(pid: int | None) -> float:
    """Proportional set size: pages shared between processes are counted once, divided among them."""
    if pid is None:
        return 0.0
    try:
        return float(psutil.Process(pid).memory_full_info().pss) / 1e6
    except psutil.Error:
        return 0.0
