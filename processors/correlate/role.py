"""The role `correlator`: what it reads and keeps, and how it is run."""

from __future__ import annotations

import threading

from infra.core.ports import Ready, StepPlan
from infra.core.settings import Settings
from infra.kafka.loop import run_step
from processors.correlate.catalogue import rules_of
from processors.correlate.correlating import Correlator
from schemas.codec import Codec

PLAN = StepPlan(
    role="correlator",
    inputs=("changes", "ticks"),
    changelog="state.correlator",
    global_tables=("inventory", "intel"),
    global_inputs=("inventory", "intel"),
)


def make_step(settings: Settings, codec: Codec) -> Correlator:
    """The step with the built-in rules, the installed ones and those of the user's file. Raises BadInput for what is no rule."""
    rules, tables = rules_of(settings.correlator.rules)
    return Correlator(rules, tables, codec.header("intel"))


def run(settings: Settings, stop: threading.Event, ready: Ready) -> None:
    """Run until `stop` is set. Raises DriftlineError for what a person must mend."""
    run_step(settings, PLAN, lambda codec: make_step(settings, codec), stop, ready)
