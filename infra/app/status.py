"""What runs on this machine and how it fares, from the supervisor's notes, each process's own word, and the kernel's."""

from __future__ import annotations

import json
import time
import urllib.request
from dataclasses import dataclass, field
from typing import Any

import psutil
from pydantic import BaseModel

from infra.app.runfolder import read_notes
from infra.core.settings import Settings

Told = dict[str, dict[str, Any]]


class PipelineStatus(BaseModel):
    """One row a role: its state, its process's memory (proportional set size) and processor share, counters, rates in records a second.

    Roles that share a process have its memory and processor share in the first one's row.
    """

    running: bool
    rows: list[dict[str, Any]]
    memory_mb: float
    cpu_percent: float
    seconds: float


@dataclass(frozen=True, slots=True)
class _Look:
    """What one process had used and what its roles told, at one moment."""

    cpu: float
    told: Told = field(default_factory=dict)
    at: float = field(default_factory=time.monotonic)


def pipeline_status(settings: Settings, seconds: float = 3.0) -> PipelineStatus:
    """Look at every process of the pipeline twice, `seconds` apart."""
    notes = read_notes(settings)
    if notes is None:
        return PipelineStatus(running=False, rows=[], memory_mb=0, cpu_percent=0, seconds=0)
    entries = [{"roles": ["supervisor"], "port": None, "pid": notes["supervisor"]}, *notes["members"]]
    before = [_look(entry) for entry in entries]
    begun = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begun
    rows: list[dict[str, Any]] = []
    memory = cpu = 0.0
    for entry, first in zip(entries, before, strict=True):
        second = _look(entry)
        share = 100 * max(0.0, second.cpu - first.cpu) / (second.at - first.at)
        held = _memory_mb(entry["pid"])
        memory, cpu = memory + held, cpu + share
        found = [_row(entry, role, first, second) for role in entry["roles"]]
        found[0] |= {"memory_mb": round(held, 1), "cpu_percent": round(share, 2)}
        rows += found
    return PipelineStatus(running=True, rows=rows, memory_mb=round(memory, 1), cpu_percent=round(cpu, 2), seconds=round(took, 1))


def _row(entry: dict[str, Any], role: str, first: _Look, second: _Look) -> dict[str, Any]:
    word, earlier = second.told.get(role, {}), first.told.get(role, {})
    return {
        "role": role,
        "state": _state(entry, word),
        "pid": entry["pid"],
        "memory_mb": None,
        "cpu_percent": None,
        "received": _whole(word.get("received")),
        "emitted": _whole(word.get("emitted")),
        "in_per_s": _rate("received", earlier, word, second.at - first.at),
        "out_per_s": _rate("emitted", earlier, word, second.at - first.at),
        "lag": _whole(word.get("lag")),
        "restarts": entry.get("restarts", 0),
        "last_error": word.get("last_error") or entry.get("last_error", ""),
        "details": word.get("details") or {},
    }


def _state(entry: dict[str, Any], word: dict[str, Any]) -> str:
    if entry.get("given_up"):
        return "stopped (fuse)"
    if not _alive(entry["pid"]):
        return "down"
    if entry["port"] is None:
        return "ready"
    return "no answer" if not word else "ready" if word.get("ready") else "starting"


def _rate(name: str, earlier: dict[str, Any], later: dict[str, Any], seconds: float) -> float | None:
    """Records a second; None unless the same process answered twice."""
    if name not in earlier or name not in later or later[name] < earlier[name]:
        return None
    return round(float(later[name] - earlier[name]) / seconds, 1)


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _look(entry: dict[str, Any]) -> _Look:
    return _Look(_cpu(entry["pid"]), _told(entry["port"]))


def _told(port: int | None) -> Told:
    if port is None:
        return {}
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/status", timeout=2.0) as response:
            roles: Told = json.load(response)["roles"]
            return roles
    except (OSError, ValueError, KeyError):
        return {}


def _alive(pid: int | None) -> bool:
    try:
        return pid is not None and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


def _cpu(pid: int | None) -> float:
    try:
        times = psutil.Process(pid).cpu_times() if pid is not None else None
    except psutil.Error:
        return 0.0
    return float(times.user + times.system) if times else 0.0


def _memory_mb(pid: int | None) -> float:
    """Proportional set size: pages shared between processes are counted once, divided among them."""
    try:
        return float(psutil.Process(pid).memory_full_info().pss) / 1e6 if pid is not None else 0.0
    except psutil.Error:
        return 0.0


def model_line(details: dict[str, Any]) -> str:
    """What the assessor tells of its model, in a line; empty where it tells nothing."""
    if not details.get("model"):
        return ""
    spent = ", ".join(f"{name.replace('_', '-')} {_of(one)}" for name, one in details["last_hour"].items())
    fallback = f", else {details['fallback']} ({details['by_fallback']} answers)" if details.get("fallback") else ""
    told = ", ".join(f"{details[name]} {word}" for name, word in TOLD.items())
    limits = f"at most {details['calls_per_minute']} calls a minute, {details['parallel']} at once"
    return f"model {details['model']}{fallback}: {told}; in the last hour {spent}; {limits}"


TOLD = {"waiting": "waiting", "answered": "answered", "from_store": "answered from exchanges", "failed": "failed"}


def _of(one: dict[str, Any]) -> str:
    limit = "" if one["limit"] is None else f" of {one['limit']:,.12g}"
    return f"{one['spent']:,.6g}{limit}" if isinstance(one["spent"], float) and one["spent"] % 1 else f"{int(one['spent']):,}{limit}"
