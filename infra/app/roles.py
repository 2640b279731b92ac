"""The roles by name, which module holds each, and which share a process under `driftline up`."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from threading import Event as Flag

from infra.core.errors import BadInput
from infra.core.ports import Ready
from infra.core.settings import Settings

Run = Callable[[Settings, Flag, Ready], None]

MODULES: dict[str, str] = {
    "store": "infra.app.store",
    "scheduler": "producers.scheduler.role",
    "planner": "processors.plan.role",
    "scanner": "processors.scan.role",
    "differ": "processors.diff.role",
    "correlator": "processors.correlate.role",
    "assessor": "consumers.assess.role",
    "archiver": "consumers.archive.role",
    "notifier": "consumers.notify.role",
    "rollups": "processors.rollup.role",
    "reconciler": "consumers.reconcile.role",
    "intel": "producers.intel.role",
}

# One process a role, but for four that mostly wait: sharing saves their interpreters' memory.
GROUPS: tuple[tuple[str, ...], ...] = (
    ("store",),
    ("archiver",),
    ("assessor",),
    ("correlator",),
    ("differ",),
    ("scanner",),
    ("planner", "scheduler", "notifier", "intel"),
    ("rollups",),
    ("reconciler",),
)


def load_role(name: str) -> Run:
    """The `run` of a role, imported only now: LangChain and Scapy cost more than a second each. Raises BadInput for an unknown one."""
    if name not in MODULES:
        raise BadInput(f"There is no role '{name}'.", f"The roles are {', '.join(MODULES)}.")
    run: Run = importlib.import_module(MODULES[name]).run
    return run


def health_port(settings: Settings, roles: tuple[str, ...]) -> int:
    """Where a process that runs these roles answers health and metrics, by its first role and the worker's slot."""
    return settings.telemetry.port_base + settings.slot * len(MODULES) + list(MODULES).index(roles[0])
