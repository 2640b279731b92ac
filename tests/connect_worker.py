"""A connect sweep in a process of its own: `python -m tests.connect_worker PROBES ADDRESS`. Prints what it held at most, as JSON."""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from pathlib import Path

from infra.core.settings import ScannerSettings
from processors.scan.meter import Meter
from processors.scan.sweep import connect
from processors.scan.sweep.ledger import Ledger, PortState
from tests.scanning import NotingGate, make_unit

SECONDS = 5.0  # longer than in earnest: the question is what many cost at once, not how fast a busy machine begins them


def rss_mb() -> float:
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def main(probes: int, address: str) -> None:
    """Sweep and watch from a thread."""
    unit = make_unit([address], f"1-{probes}")
    ledger = Ledger([address], range(1, probes + 1), 1)
    meter = Meter(NotingGate(), unit)
    over = threading.Event()
    most = {"open": 0, "rss_mb": 0.0}

    def watch() -> None:
        while not over.wait(0.02):
            most["open"] = max(most["open"], sum(1 for _ in Path("/proc/self/fd").iterdir()))
            most["rss_mb"] = max(most["rss_mb"], rss_mb())

    connect.ONE_SYN_SECONDS = SECONDS
    before, began = rss_mb(), time.monotonic()
    thread = threading.Thread(target=watch)
    thread.start()
    try:
        asyncio.run(connect.sweep_connect(ledger, meter, ScannerSettings(attempts=1, parallel_units=1, connect_timeout=SECONDS)))
    finally:
        over.set()
        thread.join()
    silent = int((ledger.states == PortState.SILENT).sum())
    print(json.dumps({**most, "rss_before_mb": before, "silent": silent, "seconds": time.monotonic() - began}))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
