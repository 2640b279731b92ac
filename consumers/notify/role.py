"""Wires the notifier: every revision of a finding becomes one OCSF event on `findings.ocsf`, and pages for the webhooks that it calls for.

The step alone decides and stays in the engine's transactions; a thread for each webhook brings the pages to its receiver.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator
from dataclasses import replace
from threading import Event as Flag

from consumers.notify.courier import keep_delivering
from consumers.notify.ocsf import to_ocsf
from consumers.notify.paging import Told, pages
from infra.core.errors import Poison
from infra.core.notifier_settings import Webhook
from infra.core.ports import Context, Emit, Ready, Record, StepPlan, read_state
from infra.core.settings import Settings
from infra.kafka.deadletters import CODE_VERSION
from infra.kafka.loop import run_step
from schemas.events.findings import Finding

PLAN = StepPlan(role="notifier", inputs=("findings",), changelog="state.notifier")
LEAVE_SECONDS = 10.0


class Notifier:
    """The step: one finding in, one OCSF event out, and what webhooks are to be told."""

    def __init__(self, webhooks: tuple[Webhook, ...] = ()) -> None:
        self._webhooks = webhooks

    def handle(self, record: Record, context: Context) -> Iterable[Emit]:
        """The OCSF event of a finding, keyed by its id, and pages."""
        if record.event is None:
            if context.state.get(record.key) is not None:
                context.state.delete(record.key)
            yield Emit("findings.ocsf", record.key, route=record.key)
            return
        if not isinstance(record.event, Finding):
            raise Poison("not a finding")
        text = json.dumps(to_ocsf(record.event, CODE_VERSION), ensure_ascii=False, separators=(",", ":"))
        yield Emit("findings.ocsf", record.key, route=record.key, raw=text.encode())
        if self._webhooks:
            yield from self._pages(record.event, context)

    def _pages(self, finding: Finding, context: Context) -> Iterator[Emit]:
        key = finding.finding_id
        value = context.state.get(key)
        before = read_state(key, value, Told.model_validate_json) if value else Told()
        found, after = pages(self._webhooks, finding, before)
        if after != before:
            context.state.put(key, after.model_dump_json().encode())
        for page in found:
            yield Emit("pages", key, page, partition=0)


def run(settings: Settings, stop: Flag, ready: Ready) -> None:
    """Run until `stop` is set. Without webhooks the step keeps no state."""
    webhooks, ended = settings.notifier.webhooks, threading.Event()
    threads = [
        threading.Thread(target=keep_delivering, args=(settings, one, ended), name=f"webhook {one.name}", daemon=True) for one in webhooks
    ]
    for thread in threads:
        thread.start()
    plan = PLAN if webhooks else replace(PLAN, changelog=None)
    try:
        run_step(settings, plan, lambda _: Notifier(webhooks), stop, ready)
    finally:
        ended.set()
        for thread in threads:
            thread.join(LEAVE_SECONDS)
