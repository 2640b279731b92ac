"""A scanner as a process of its own, to be killed: `python -m tests.scan_worker BOOTSTRAP FOLDER PREFIX SLOT WIRE`."""

from __future__ import annotations

import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path

from processors.scan.heartbeat import Identity
from processors.scan.scanner import run_scanner
from tests.scan_samples import Wire, scan_settings


def main() -> None:
    bootstrap, folder, prefix, slot, wire = sys.argv[1:]
    settings = scan_settings(bootstrap, Path(folder), prefix, int(slot))
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    identity = Identity(f"agent-{slot}", "default", "wire", (), datetime.now(UTC))
    run_scanner(settings, identity, Wire(Path(wire), f"agent-{slot}").run, stop, lambda: print("ready", flush=True))


if __name__ == "__main__":
    main()
