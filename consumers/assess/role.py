"""The role `assessor`: the step, and, where a model is configured, the second loop beside it."""

from __future__ import annotations

import threading

from consumers.assess.lifecycle import Assessor
from consumers.assess.review import keep_reviewing
from infra.core.ports import Ready, StepPlan
from infra.core.settings import Settings
from infra.kafka.loop import run_step
from schemas.codec import Codec

PLAN = StepPlan(
    role="assessor",
    inputs=("exposures", "ticks", "exchanges"),
    changelog="state.assessor",
    global_tables=("decisions",),
    global_inputs=("decisions",),
)


def make_step(settings: Settings, codec: Codec) -> Assessor:
    """The step."""
    del codec
    return Assessor(settings)


def run(settings: Settings, stop: threading.Event, ready: Ready) -> None:
    """Run until `stop` is set. Raises DriftlineError for what a person must mend."""
    ended = threading.Event()
    reviews = threading.Thread(target=keep_reviewing, args=(settings, ended), name="reviews", daemon=True)
    if settings.model.name:
        reviews.start()
    try:
        run_step(settings, PLAN, lambda codec: make_step(settings, codec), stop, ready)
    finally:
        ended.set()
        if settings.model.name:
            reviews.join(10)
