"""Wires the notifier: every revision of a finding becomes one OCSF event on `findings.ocsf`; a tombstone stays one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from threading import Event as Flag

from consumers.notify.ocsf import to_ocsf
from infra.core.errors import Poison
from infra.core.ports import Context, Emit, Ready, Record, StepPlan
from infra.core.settings import Settings
from infra.kafka.deadletters import CODE_VERSION
from infra.kafka.loop import run_step
from schemas.events.findings import Finding

PLAN = StepPlan(role="notifier", inputs=("findings",))


class Notifier:
    """The step: one finding in, one OCSF event out."""

    def handle(self, record: Record, context: Context) -> Iterable[Emit]:
        """The OCSF event of a finding, keyed by its id."""
        del context
        if record.event is None:
            yield Emit("findings.ocsf", record.key, route=record.key)
            return
        if not isinstance(record.event, Finding):
            raise Poison("not a finding")
        text = json.dumps(to_ocsf(record.event, CODE_VERSION), ensure_ascii=False, separators=(",", ":"))
        yield Emit("findings.ocsf", record.key, route=record.key, raw=text.encode())


def run(settings: Settings, stop: Flag, ready: Ready) -> None:
    """Run until `stop` is set."""
    run_step(settings, PLAN, lambda _: Notifier(), stop, ready)
