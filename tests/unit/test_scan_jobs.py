"""Units in work when the scanner ends."""

from __future__ import annotations

import asyncio
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

from confluent_kafka import Message

from infra.core.clock import uptime
from processors.scan.heartbeat import Identity
from processors.scan.intake import Entry, Stage
from processors.scan.jobs import Jobs
from processors.scan.scope.admission import ScannerGate
from processors.scan.scope.authority import Authority
from processors.scan.scope.gate import Gate
from schemas.codec import Codec
from schemas.events.targets import WorkUnit
from tests.scan_samples import WireReport, make_grant, make_unit, scan_settings


def now() -> datetime:
    return datetime.now(UTC)


def test_a_unit_that_waits_when_the_scanner_ends_is_done_again_and_not_published(tmp_path: Path) -> None:
    settings = scan_settings("127.0.0.1:1", tmp_path, "")
    authority = Authority(settings, "agent-0", Codec())
    authority.learn([make_grant()])
    authority.fresh_at = uptime()
    gate = ScannerGate(settings, authority, uptime, now)
    began = threading.Event()

    async def wait(_: WorkUnit, __: Gate, ___: int) -> WireReport:
        began.set()
        await asyncio.sleep(60)
        raise AssertionError

    jobs = Jobs(gate, Identity("agent-0", "default", "wire", (), now()), wait, now)
    unit = make_unit(1)
    entry = Entry(0, 0, cast("Message", None), unit, 0.0)
    jobs.begin(entry, unit)
    assert began.wait(10)
    gate.stopping = True
    jobs.close()
    assert list(jobs.finished()) == []
    assert (entry.stage, entry.outcome) == (Stage.WAITING, None)
