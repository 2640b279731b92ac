"""The differ as a role: which topics it reads, where its state is kept."""

from __future__ import annotations

from threading import Event as Flag

from infra.core.ports import Ready, StepPlan
from infra.core.settings import Settings
from infra.kafka.loop import run_step
from processors.diff.differ import Differ
from schemas.codec import Codec

PLAN = StepPlan(role="differ", inputs=("probes", "ticks"), changelog="assets", plain=True)


def make_step(settings: Settings, codec: Codec) -> Differ:
    """The step that the loop runs."""
    return Differ(settings.differ, codec)


def run(settings: Settings, stop: Flag, ready: Ready) -> None:
    """Run until `stop` is set."""
    run_step(settings, PLAN, lambda codec: make_step(settings, codec), stop, ready)
